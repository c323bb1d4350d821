"""Forms that were opened before somebody else saved: what happened meanwhile, and what now.

A form carries what it was opened with, `<version>.<entry>`: the object's version, and the number
of the latest entry of its history. The second only decides what is told of that history.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError

from forge.pages.audit_words import Line, lines_of
from projects.audit.entry import AuditEntry, Kind, Verb
from projects.errors import ChangedMeanwhileError, ForgeError, NameTakenError
from projects.versions import version_of

if TYPE_CHECKING:
    from django import forms
    from django.contrib.auth.models import AnonymousUser, User
    from django.db import models
    from django.http import HttpRequest

FIELD = "version"
# Of the button that saves over what somebody else has saved: the version that this page told of.
OVER = "over"
SHOWN = 8
MAXIMUM_DIGITS = 18
_OUTDATED = "outdated"


def mark_of(row: models.Model, kind: Kind) -> str:
    """What a form of this stored row is to carry."""
    latest = AuditEntry.objects.about(kind, row.pk).values_list("pk", flat=True).first()
    return f"{version_of(row)}.{latest or 0}"


def opened_with(request: HttpRequest) -> str:
    """The mark that the form was opened with."""
    return request.POST.get(FIELD, "")


def version_from(request: HttpRequest) -> str:
    """The version that may be overwritten; empty from whoever names none."""
    return (request.POST.get(OVER) or opened_with(request)).partition(".")[0]


@dataclass(frozen=True)
class Meanwhile:
    """What was saved after a form had been opened; `mark` is what is stored by now."""

    mark: str
    lines: list[Line]
    by_reader: bool

    @property
    def last(self) -> Line | None:
        return self.lines[0] if self.lines else None


def meanwhile(
    user: User | AnonymousUser, row: models.Model, kind: Kind, *, opened: str
) -> Meanwhile:
    """`row` is what is stored; `opened` the mark of the form, which anybody may have written."""
    number = opened.partition(".")[2][:MAXIMUM_DIGITS]
    since = int(number) if number.isascii() and number.isdigit() else 0
    rows = AuditEntry.objects.for_user(user).about(kind, row.pk)
    lines = lines_of(rows.filter(pk__gt=since, verb=Verb.CHANGED)[:SHOWN])
    by_reader = bool(lines) and all(line.entry.actor_id == user.pk for line in lines)
    return Meanwhile(mark_of(row, kind), lines, by_reader)


def refuse(form: forms.BaseForm, error: ForgeError) -> None:
    """Put the sentence of an error over the form, or at the name if that is taken; of
    ChangedMeanwhileError it is remembered.
    """
    if isinstance(error, NameTakenError):
        form.add_error("name", str(error))
        return
    code = _OUTDATED if isinstance(error, ChangedMeanwhileError) else "refused"
    form.add_error(None, ValidationError(str(error), code=code))


def is_outdated(form: forms.BaseForm) -> bool:
    return form.has_error(NON_FIELD_ERRORS, _OUTDATED)


def told(
    request: HttpRequest, form: forms.BaseForm, row: models.Model | None, kind: Kind, *, mark: str
) -> dict[str, Any]:
    """What the form's page needs to know of versions.

    `row` is what is stored, None of what is new; `mark` was read before the form read anything,
    so that a change in between is noticed rather than missed.
    """
    opened = opened_with(request) if form.is_bound else mark
    found = {"mark": opened}
    if row is None or not is_outdated(form):
        return found
    return found | {"meanwhile": meanwhile(request.user, row, kind, opened=opened)}


def status_of(form: forms.BaseForm) -> HTTPStatus:
    if is_outdated(form):
        return HTTPStatus.CONFLICT
    return HTTPStatus.BAD_REQUEST if form.errors else HTTPStatus.OK
