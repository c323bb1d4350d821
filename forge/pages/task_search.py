"""Tasks found by what somebody types: a number, or a part of a name.

A name may be of a template, of a runner or of a person. Each is looked up by itself, and its tasks
are read by an index of their own: one condition with `OR` in it would have a million rows read for
a name that few of them have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.db.models import Exists, OuterRef, Q, Value
from django.db.models.functions import Concat

from forge.lists.task_rows import for_rows
from projects.words import whole_number
from runners.models import Runner
from tasks.models import Task, TaskTemplate

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from projects.models import Project
    from tasks.querysets import TaskQuerySet

MAXIMUM_TEXT = 80


@dataclass(frozen=True)
class Found:
    """The tasks of all these querysets, each once, newest first."""

    branches: Sequence[TaskQuerySet]

    def newest(self, wanted: int, **limits: int) -> list[Task]:
        """So many at most, within limits such as `pk__lt`."""
        return self._read("-pk", wanted, limits)

    def oldest(self, wanted: int, **limits: int) -> list[Task]:
        """The same from the other end, oldest first."""
        return self._read("pk", wanted, limits)

    def count(self, most: int, **limits: int) -> int:
        """How many they are, counted no further than `most`."""
        if len(self.branches) == 1:
            return self.branches[0].filter(**limits)[:most].count()
        return min(len(self._numbers("-pk", most, limits)), most)

    def _read(self, order: str, wanted: int, limits: dict[str, int]) -> list[Task]:
        if len(self.branches) == 1:
            return list(for_rows(self.branches[0].filter(**limits)).order_by(order)[:wanted])
        numbers = sorted(self._numbers(order, wanted, limits), reverse=order == "-pk")[:wanted]
        rows = Task.objects.filter(pk__in=numbers)
        return list(for_rows(rows).order_by(order)) if numbers else []

    def _numbers(self, order: str, wanted: int, limits: dict[str, int]) -> set[int]:
        """Those that can be among the first `wanted` of all."""
        found: set[int] = set()
        for rows in self.branches:
            found |= set(
                rows.filter(**limits).order_by(order).values_list("pk", flat=True)[:wanted]
            )
        return found


def found(rows: TaskQuerySet, text: str, *, project: Project) -> Found:
    """Those of `rows`, tasks of this project, that a text means; all of them for an empty one."""
    text = text.replace("\0", "").strip()[:MAXIMUM_TEXT]
    if not text:
        return Found([rows])
    digits = text.removeprefix("#")
    if digits.isascii() and digits.isdigit():
        return Found([rows.filter(pk=whole_number(digits))])
    return Found([rows.filter(one) for one in _meant(project, text)] or [rows.none()])


def _meant(project: Project, text: str) -> list[Q]:
    """The rows are few, and asked for by themselves, so that the database knows how few."""
    templates = TaskTemplate.objects.filter(project=project, name__icontains=text)
    runners = Runner.objects.filter(project=project, name__icontains=text)
    named: dict[str, QuerySet[Any]] = {
        "template": templates, "runner": runners, "created_by": _people(project, text),
    }  # fmt: skip
    numbers = {
        field: list(rows.order_by().values_list("pk", flat=True)) for field, rows in named.items()
    }
    return [Q(**{f"{field}__in": found}) for field, found in numbers.items() if found]


def _people(project: Project, text: str) -> QuerySet[Any]:
    """Whoever has started something here, by user name or by the name that pages show."""
    shown = Concat("first_name", Value(" "), "last_name")
    has_started = Exists(Task.objects.filter(project=project, created_by=OuterRef("pk")))
    users = get_user_model().objects.alias(shown_name=shown)
    is_called = Q(username__icontains=text) | Q(shown_name__icontains=text)
    return users.filter(is_called).filter(has_started)
