"""Reading the audit log: what is asked for, a page of it, the trail of one object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.db.models import Value
from django.db.models.functions import Lower

from projects.audit.actor import MAXIMUM_NAME, Way
from projects.audit.entry import AuditEntry, AuditEntryQuerySet, Kind, Verb
from projects.moment_field import MomentField

PAGE_ROWS = 50
TRAIL_ROWS = 8


class Filters(forms.Form):
    """What of the log somebody asks for; everything may be left out."""

    name = forms.CharField(required=False, max_length=100, label="Name begins with")
    who = forms.CharField(required=False, max_length=MAXIMUM_NAME, label="Who")
    verb = forms.ChoiceField(
        required=False, label="Did what", choices=[("", "anything"), *Verb.choices]
    )
    kind = forms.ChoiceField(
        required=False, label="To what", choices=[("", "anything"), *Kind.choices]
    )
    object = forms.IntegerField(required=False, min_value=1, max_value=2**63 - 1, label="Number")
    way = forms.ChoiceField(required=False, label="How", choices=[("", "any way"), *Way.choices])
    address = forms.GenericIPAddressField(required=False, label="Address")
    since = MomentField(label="From")
    until = MomentField(label="To", is_end=True)

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        since, until = given.get("since"), given.get("until")
        if since and until and since >= until:
            self.add_error(
                "until", "This is not after From, so nothing can be found. Swap the two."
            )
        return given

    @property
    def is_set(self) -> bool:
        return any(self.asked.values())

    @property
    def asked(self) -> dict[str, str]:
        """What stands in the address, without what is empty."""
        given = {name: str(self.data.get(name, "")).strip() for name in self.fields}
        return {name: text for name, text in given.items() if text}

    def query(self, **more: int) -> str:
        """The address's query of these filters, and more."""
        return urlencode(self.asked | {name: str(value) for name, value in more.items() if value})

    def query_without(self, *names: str) -> str:
        return urlencode({name: text for name, text in self.asked.items() if name not in names})

    def apply(self, rows: AuditEntryQuerySet) -> AuditEntryQuerySet:
        """Nothing is found for what cannot be read."""
        if not self.is_valid():
            return rows.none()
        given: Mapping[str, Any] = self.cleaned_data
        columns = {
            "actor": given["who"],
            "verb": given["verb"],
            "kind": given["kind"],
            "object_id": given["object"],
            "way": given["way"],
            "address": given["address"],
            "at__gte": given["since"],
            "at__lt": given["until"],
        }
        rows = rows.filter(**{name: value for name, value in columns.items() if value})
        if name := given["name"]:
            small = Lower(Value(name))
            rows = rows.alias(small_name=Lower("name")).filter(small_name__startswith=small)
        return rows


@dataclass(frozen=True)
class Page:
    """Entries, newest first; the numbers are where the pages before and after it begin."""

    rows: list[AuditEntry]
    newer_than: int | None
    older_than: int | None


def page_of(
    rows: AuditEntryQuerySet, *, older_than: int = 0, newer_than: int = 0, length: int = PAGE_ROWS
) -> Page:
    """The page below or above an entry, by its number; the first page without one.

    By key, so that the thousandth page costs what the first does and nothing moves while reading.
    """
    wanted = length + 1
    mark = AuditEntry.objects.filter(pk=newer_than or older_than).only("at").first()
    if (newer_than or older_than) and mark is None:
        return Page([], None, None)
    if newer_than and mark is not None:
        upward = list(rows.before(mark).order_by("at", "pk")[:wanted])
        found, has_newer, has_older = upward[:length][::-1], len(upward) == wanted, True
    else:
        downward = list((rows.after(mark) if mark else rows)[:wanted])
        found, has_newer, has_older = downward[:length], mark is not None, len(downward) == wanted
    return Page(
        found,
        found[0].pk if found and has_newer else None,
        found[-1].pk if found and has_older else None,
    )


def trail(rows: AuditEntryQuerySet, kind: Kind, object_id: int) -> list[AuditEntry]:
    """The latest of what was done to one object."""
    return list(rows.about(kind, object_id)[:TRAIL_ROWS])
