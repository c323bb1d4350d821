"""The tasks of a span of time, for whoever looks back: "last Tuesday, between two and four"."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from django.core.exceptions import ValidationError
from django.utils import timezone

from projects.moment_field import MomentField
from tasks.models import Task

if TYPE_CHECKING:
    from collections.abc import Collection

    from django.http import QueryDict

    from projects.models import Project
    from tasks.querysets import TaskQuerySet

_FIELDS = {"from": MomentField(), "until": MomentField(is_end=True)}
_LABELS = {"from": "Queued from", "until": "Queued until"}


@dataclass(frozen=True)
class End:
    """One end of the span: what the address says, when that is, and the address without it.

    local: in Forge's zone, as a field of a form takes it.
    """

    name: str
    label: str
    given: str
    at: datetime | None
    local: str
    without: str


def why_no_moment(name: str, given: str) -> str:
    """What is wrong with it; empty if it is one, or is no end of a span."""
    try:
        if name in _FIELDS:
            _FIELDS[name].clean(given)
    except ValidationError as error:
        return str(error.messages[0])
    return ""


def is_backwards(query: QueryDict) -> bool:
    """Whether both ends are given and the end is not behind the beginning."""
    try:
        begin, end = (_FIELDS[name].clean(query.get(name, "")) for name in _FIELDS)
    except ValidationError:
        return False
    return bool(begin and end and end <= begin)


def ends(query: QueryDict, names: Collection[str]) -> list[End]:
    """Both ends; names: of all filters, which an address without one keeps."""
    kept = {name: query.get(name, "") for name in names if query.get(name)}
    return [_end(name, query.get(name, ""), kept) for name in _FIELDS]


def as_field(at: datetime | None) -> str:
    """In Forge's zone, as a field of a form takes it; static/forge/moments.js has the reader's."""
    return f"{timezone.localtime(at):%Y-%m-%dT%H:%M}" if at else ""


def _end(name: str, given: str, kept: dict[str, str]) -> End:
    at = _FIELDS[name].clean(given)
    return End(
        name,
        _LABELS[name],
        given,
        at,
        local=as_field(at),
        without=urlencode({other: text for other, text in kept.items() if other != name}),
    )


def within(rows: TaskQuerySet, query: QueryDict, *, project: Project) -> TaskQuerySet:
    """Those that were queued in the span. The query is one that was understood."""
    begin, end = (_FIELDS[name].clean(query.get(name, "")) for name in _FIELDS)
    return before(since(rows, begin, project=project), end, project=project)


def since(rows: TaskQuerySet, begin: datetime | None, *, project: Project) -> TaskQuerySet:
    """By number too: what is older is never read, however much there is."""
    if begin is None:
        return rows
    older = Task.objects.filter(project=project, created_at__lt=begin).order_by("-created_at")
    last = older.values_list("pk", flat=True).first()
    rows = rows.filter(created_at__gte=begin)
    return rows.filter(pk__gt=last) if last else rows


def before(rows: TaskQuerySet, end: datetime | None, *, project: Project) -> TaskQuerySet:
    """By number too: what is newer is never read either."""
    if end is None:
        return rows
    newer = Task.objects.filter(project=project, created_at__gte=end).order_by("created_at")
    first = newer.values_list("pk", flat=True).first()
    rows = rows.filter(created_at__lt=end)
    return rows.filter(pk__lt=first) if first else rows
