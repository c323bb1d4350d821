"""Stop all that waits and runs in a project, a bounded part at a time.

A hundred thousand rows are too many for one request. Whoever asks repeats it with the same
`until` while something remains; what was queued after that number is nobody's wish to stop.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import Max

from projects.audit.entry import Verb
from projects.audit.recording import record
from projects.people import name_of
from tasks.errors import TaskFinishedError
from tasks.live import announce
from tasks.models import Task
from tasks.operations import stop_task
from tasks.publish import put_out_project

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from projects.models import Project
    from tasks.querysets import TaskQuerySet

# Rows of one transaction, and how long a request goes on with the next ones.
BATCH = 1_000
BUDGET_SECONDS = 2.0


@dataclass(frozen=True)
class Plan:
    """What a stop of all would stop: how many wait and run, and the newest task that is meant."""

    waiting: int
    running: int
    until: int

    @property
    def count(self) -> int:
        return self.waiting + self.running


@dataclass(frozen=True)
class Part:
    """What one request has stopped, of what waited and of what ran, and what remains to be."""

    waiting: int
    running: int
    remaining: int


def plan_stop_all(project: Project, *, until: int = 0) -> Plan:
    """What there is to stop now; with `until` of the tasks up to that number."""
    rows = Task.objects.filter(project=project).order_by()
    if not until:
        until = rows.aggregate(newest=Max("pk"))["newest"] or 0
    rows = rows.filter(pk__lte=until)
    return Plan(rows.waiting().count(), rows.to_stop().count(), until)


def stop_all(
    *, project: Project, by: User, now: datetime, until: int, only_waiting: bool = False
) -> Part:
    """Stop what waits, oldest first, and then what runs, of the tasks up to number `until`.

    What waits is stopped by the conditional update of a single stop, on many rows at once: a task
    that a runner claims meanwhile runs, and is stopped as such. Two who ask at once share the work.
    """
    end = time.monotonic() + BUDGET_SECONDS
    rows = Task.objects.filter(project=project, pk__lte=until)
    waiting = running = 0
    while ids := _next_waiting(rows):
        waiting += _stop_waiting(project, ids, by=by, now=now)
        if time.monotonic() > end:
            break
    if not ids and not only_waiting:
        running = _stop_running(rows, by=by, now=now, end=end)
    left = plan_stop_all(project, until=until)
    if not left.waiting:
        # Those that came later may start now.
        put_out_project(project.pk, now=now)
    return Part(waiting, running, left.waiting if only_waiting else left.count)


def _next_waiting(rows: TaskQuerySet) -> list[int]:
    return list(rows.waiting().order_by("pk").values_list("pk", flat=True)[:BATCH])


@transaction.atomic
def _stop_waiting(project: Project, ids: list[int], *, by: User, now: datetime) -> int:
    """Those of `ids` that still wait; returns how many."""
    batch = Task.objects.filter(pk__in=ids)
    # Locked in one order, so that two who do this at once do not wait for each other in a ring.
    held = list(batch.select_for_update().order_by("pk").values_list("pk", flat=True))
    reason = f"Stopped by {name_of(by)}, with all that waited."
    stopped = batch.order_by().stop_before_start(reason=reason, now=now)
    if stopped:
        words = "One task" if stopped == 1 else f"{stopped:,} tasks"
        span = f"#{held[0]}" if len(held) == 1 else f"from #{held[0]} to #{held[-1]}"
        detail = f"{words} that waited, {span}."
        record(Verb.STOPPED_ALL, project, detail=detail)
        transaction.on_commit(partial(announce, *held))
    return stopped


def _stop_running(rows: TaskQuerySet, *, by: User, now: datetime, end: float) -> int:
    """Ask the runners to stop what they hold, one task after the other, until the time is over."""
    asked = 0
    held = rows.to_stop().select_related("project", "template").without_scripts("template")
    for task in held.order_by("pk")[:BATCH]:
        try:
            stop_task(task=task, by=by, now=now)
            asked += 1
        except TaskFinishedError:
            continue  # it ended by itself a moment ago
        if time.monotonic() > end:
            break
    return asked
