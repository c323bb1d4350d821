"""Stored secrets as a whole: can they be read, and are they under the current key?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from django.db import transaction

from projects.audit.entry import Kind, Verb
from projects.audit.recording import record_event
from projects.encryption import Sealed
from projects.errors import SecretsKeyError, SecretUnreadableError
from projects.models import AccessKey, SecretVariable

BATCH = 200
NAMED = 5

Row = AccessKey | SecretVariable


@dataclass
class Count:
    """Of stored secrets: moved to the first key, there already, and which nobody can read."""

    moved: int = 0
    current: int = 0
    unreadable: list[str] = field(default_factory=list)


def reencrypt() -> Count:
    """Put every secret under the first key, in batches; again, it finds nothing to do.

    Raises SecretsKeyError. A secret that no key opens stays as it is and is named.
    """
    count = Count()
    for row in _rows():
        _move(row, count)
    if count.moved:
        # Row by row, so that it can be broken off; what is noted is that it was done at all.
        with transaction.atomic():
            detail = f"{count.moved} were put under the first key."
            record_event(Verb.REENCRYPTED, Kind.SECRETS, name="all secrets", detail=detail)
    return count


def _rows() -> Iterator[Row]:
    yield from AccessKey.objects.exclude(secret=None).order_by("pk").iterator(BATCH)
    secrets = SecretVariable.objects.select_related("group").order_by("pk")
    yield from secrets.iterator(BATCH)


def _move(row: Row, count: Count) -> None:
    old = row.secret
    if old is None:
        return
    if old.is_under_first_key():
        count.current += 1
        return
    try:
        new = Sealed.seal(old.open(row.place, str(row)), row.place)
    except SecretUnreadableError as error:
        count.unreadable.append(str(error))
        return
    # Only if nobody replaced it meanwhile: then it is under the first key anyway.
    count.moved += type(row)._default_manager.filter(pk=row.pk, secret=old).update(secret=new)


def trouble() -> str:
    """What keeps stored secrets from being read, in a sentence; empty when nothing does."""
    total, unreadable = 0, []
    for row in _rows():
        total += 1
        try:
            row.open()
        except SecretsKeyError as error:
            return f"There are stored secrets, and they cannot be read: {error}"
        except SecretUnreadableError as error:
            unreadable.append(error)
    if not unreadable:
        return ""
    named = ", ".join(error.what.removeprefix("the ") for error in unreadable[:NAMED])
    more = f" and {len(unreadable) - NAMED} more" if len(unreadable) > NAMED else ""
    return (
        f"{len(unreadable)} of {total} stored secrets cannot be read with FORGE_SECRETS_KEY or "
        f"its fallbacks: {named}{more}. Tasks that need them will fail. Give Forge the key back "
        "that they were stored with, or enter them again."
    )
