"""What happens across the projects of a person: what runs, what failed, runners in trouble."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

from django.db.models import F, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce

from forge.lists.task_rows import TaskRow, for_rows, rows_of
from forge.pages import fleet
from forge.pages.shell import in_trouble
from projects.models import Project
from runners.models import Runner
from tasks.lifecycle import BAD, TaskState
from tasks.models import Task

if TYPE_CHECKING:
    from django.contrib.auth.models import User

SHOWN = 8
LATELY = timedelta(hours=24)
# Of the failures of a project no more are counted.
MAXIMUM_FAILED = 99


@dataclass(frozen=True)
class Failure:
    """The latest of its project, and how many of it failed that were queued in the last day."""

    row: TaskRow
    count: int

    @property
    def count_in_words(self) -> str:
        """`7 failed`, `more than 99 failed`; empty where the latest one is all."""
        if self.count > MAXIMUM_FAILED:
            return f"more than {MAXIMUM_FAILED} failed"
        return f"{self.count} failed" if self.count > 1 else ""


@dataclass(frozen=True)
class Activity:
    """Each list is cut to SHOWN; the counts are of everything."""

    running: list[TaskRow]
    running_count: int
    unreachable_count: int
    failed: list[Failure]
    trouble: list[fleet.RunnerRow]
    trouble_count: int


def activity_of(user: User, *, now: datetime) -> Activity:
    # Sorted here: for an ORDER BY the database would read all finished tasks too.
    held = sorted(Task.objects.for_user(user).held().order_by().values_list("pk", "state"))
    troubled = in_trouble(Runner.objects.for_user(user), now=now)
    # Who fell silent last is who is missed; one that never came is no emergency.
    latest = troubled.order_by(F("last_heartbeat_at").desc(nulls_last=True))
    return Activity(
        running=_rows([pk for pk, _ in held[-SHOWN:]], now),
        running_count=len(held),
        unreachable_count=sum(state == TaskState.UNREACHABLE for _, state in held),
        failed=_failures(user, now),
        trouble=fleet.rows_among(latest[:SHOWN], now=now),
        trouble_count=troubled.count(),
    )


def _rows(numbers: list[int], now: datetime) -> list[TaskRow]:
    tasks = for_rows(Task.objects.filter(pk__in=numbers))
    return rows_of(sorted(tasks, key=lambda task: task.pk, reverse=True), now=now)


def _failures(user: User, now: datetime) -> list[Failure]:
    numbers = _latest_failures(user, now)
    rows = sorted(_rows(numbers, now), key=lambda row: numbers.index(row.task.pk))
    counts = _failed_lately([row.task.project_id for row in rows], now)
    return [Failure(row, counts[row.task.project_id]) for row in rows]


def _latest_failures(user: User, now: datetime) -> list[int]:
    """Of each project the one that ended last: many of one must not hide the only one of another.

    By its end, not by its number: a task that runs for long ends after others that came later.
    """
    of_project = Task.objects.filter(project=OuterRef("pk"), finished_at__gt=now - LATELY)
    last = of_project.order_by("-finished_at").values("pk")
    # State by state, as below.
    latest = {state: Subquery(last.filter(state=state)[:1]) for state in sorted(BAD)}
    rows = Project.objects.for_user(user).order_by().annotate(**latest)
    numbers = [pk for pair in rows.values_list(*latest) for pk in pair if pk]
    ended = Task.objects.filter(pk__in=numbers).order_by("-finished_at")
    found: dict[int, int] = {}
    for pk, project in ended.values_list("pk", "project_id"):
        found.setdefault(project, pk)
    return list(found.values())[:SHOWN]


def _failed_lately(projects: list[int], now: datetime) -> Counter[int]:
    """By project as many as the list behind it shows, read from the newest on, never many more.

    State by state: SQLite finds the index of two states in one only by chance.
    """
    states = sorted(BAD)
    of_project = Task.objects.filter(project=OuterRef("pk")).order_by("-pk").values("pk")
    rows = Project.objects.filter(pk__in=projects).annotate(
        **{
            state: Coalesce(Subquery(of_project.filter(state=state)[MAXIMUM_FAILED:][:1]), 0)
            for state in states
        }
    )
    counted = [
        Q(project=project, state=state, pk__gte=lowest)
        for project, *numbers in rows.values_list("pk", *states)
        for state, lowest in zip(states, numbers, strict=True)
    ]
    if not counted:
        return Counter()
    failed = Task.objects.filter(reduce(or_, counted), created_at__gte=now - LATELY).order_by()
    return Counter(failed.values_list("project_id", flat=True))
