"""Tasks whose runner went silent: unreachable first, lost when the wait is over."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import Q

from tasks.lifecycle import TaskState
from tasks.live import announce
from tasks.models import Task
from tasks.publish import put_out_project


def mark_silent(*, now: datetime, after: timedelta) -> int:
    """Mark what is held by runners unheard for `after` as unreachable; returns how many."""
    silent = Task.objects.silent_since(now - after).exclude(state=TaskState.UNREACHABLE)
    count = 0
    for task in silent:
        if task.mark_unreachable(now=now):
            announce(task.pk)
            count += 1
    return count


def give_up(*, now: datetime, after: timedelta) -> int:
    """End the wait for what has been unreachable for `after`: lost, never run again by itself."""
    over = Q(state=TaskState.UNREACHABLE, unreachable_at__lte=now - after)
    count = 0
    for task in Task.objects.filter(over).select_related("runner"):
        name = task.runner.name if task.runner else "that had it"
        reason = f"Runner {name} was not heard for {_span(after)}; nobody can say how it ended."
        if task.lose(reason=reason, now=now):
            announce(task.pk)
            put_out_project(task.project_id)
            count += 1
    return count


def _span(length: timedelta) -> str:
    seconds = length.total_seconds()
    return f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"
