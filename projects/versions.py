"""What an object said when somebody opened it, so that nobody overwrites what they have not seen.

A version is a digest of all that people may edit. What Forge itself writes to a row, and what has
a page of its own, such as that a template is disabled, is no part of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, models
from django.utils.crypto import salted_hmac

from projects.errors import ChangedMeanwhileError, ForgeError
from projects.models import AccessKey, VariableGroup

VERSION_CHARACTERS = 32
# Of accounts: written by signing in, and on a page of its own.
_OF_NO_FORM = frozenset({"last_login", "password"})


def version_of(row: models.Model) -> str:
    """The version of a stored row; of secrets only when they were changed goes into it."""
    fields = row._meta.concrete_fields
    told: dict[str, Any] = {
        field.attname: getattr(row, field.attname)
        for field in fields
        if field.editable and not field.primary_key and field.name not in _OF_NO_FORM
    }
    for link in row._meta.many_to_many:
        told[link.name] = _links(row, link)
    told["secrets"] = _secrets(row)
    text = json.dumps(told, sort_keys=True, default=str)
    return salted_hmac("projects.versions", text, algorithm="sha256").hexdigest()[
        :VERSION_CHARACTERS
    ]


def _links(row: models.Model, link: Any) -> list[list[Any]]:
    """What it is linked to, with all that the links themselves say."""
    through = link.remote_field.through
    columns = [field.attname for field in through._meta.concrete_fields if not field.primary_key]
    rows = through._default_manager.filter(**{link.m2m_field_name(): row}).order_by()
    return sorted(map(list, rows.values_list(*columns)))


def _secrets(row: models.Model) -> Any:
    if isinstance(row, AccessKey):
        return row.secret_changed_at
    if isinstance(row, VariableGroup):
        return list(row.secrets.order_by("name").values_list("name", "changed_at"))
    return None


def require_version(row: models.Model, version: str) -> None:
    """Lock the row, and raise ChangedMeanwhileError if it is not of this version any more.

    Nothing is required of a row that is new, or with an empty version. To be called in the
    transaction of the change.
    """
    if row.pk is None or not version:
        return
    stored = type(row)._default_manager.select_for_update().get(pk=row.pk)
    if version_of(stored) != version:
        raise ChangedMeanwhileError(str(stored), str(row._meta.verbose_name))


@contextmanager
def held_to_version(row: models.Model, version: str) -> Iterator[bool]:
    """Lock the row for the change inside, which may change it only if it is of this version.

    Gives whether it is of another one. Then the change goes through only if it leaves the row as
    it is: what somebody saves a second time is stored already, and overwrites nothing. Otherwise,
    and if it fails, ChangedMeanwhileError, which has to leave the transaction too. Nothing is
    required of a row that is new, or with an empty version.
    """
    if row.pk is None or not version:
        yield False
        return
    rows = type(row)._default_manager.filter(pk=row.pk)
    stored = rows.select_for_update().get()
    before = version_of(stored)
    if before == version:
        yield False
        return
    outdated = ChangedMeanwhileError(str(stored), str(row._meta.verbose_name))
    try:
        yield True
    except (ForgeError, ValidationError, IntegrityError) as error:
        raise outdated from error
    if version_of(rows.get()) != before:
        raise outdated
