"""The next attempt of a task whose runner was lost, and what is kept of the one before."""

from __future__ import annotations

from copy import copy
from datetime import datetime
from functools import partial
from typing import Any

from django.db import transaction

from tasks.lifecycle import TaskState
from tasks.live import announce
from tasks.models import Task, TaskAttempt
from tasks.publish import put_out_project
from tasks.transitions import REASON_LENGTH


def begin_next_attempt(
    *,
    task: Task,
    state: TaskState,
    reason: str,
    now: datetime,
    is_over: bool = False,
    **told: Any,
) -> bool:
    """Queue an unreachable task again, if its policy and its lease allow it.

    `state` and `reason` say how the attempt ended that it had; with `is_over` its runner has said
    so itself, and `told` holds what it has reported: the `LogColumns`, and its start. Returns
    False when there is to be no other attempt, or not yet.
    """
    with transaction.atomic():
        row = Task.objects.without_scripts().select_for_update().get(pk=task.pk)
        for name, content in told.items():
            setattr(row, name, content)
        ended = TaskAttempt.of(row, state=state, reason=reason[:REASON_LENGTH], ended_at=now)
        if not row.retry(attempt=task.attempt, now=now, is_over=is_over):
            return False
        ended.save(force_insert=True)
        transaction.on_commit(partial(announce, row.pk))
        transaction.on_commit(partial(put_out_project, row.project_id))
    return True


def attempts_of(task: Task) -> list[TaskAttempt]:
    """Every attempt that was claimed, the latest last; that one may still go on."""
    earlier = list(task.earlier_attempts.all()) if task.attempt > 1 else []
    if task.claimed_at is None:
        return earlier
    state = TaskState(task.state)
    latest = TaskAttempt.of(task, state=state, reason=task.reason, ended_at=task.finished_at)
    return [*earlier, latest]


def as_of_attempt(task: Task, number: int) -> Task | None:
    """A copy of the task, not to be stored, in which the log is that of attempt `number`."""
    if number == task.attempt:
        return task
    earlier = task.earlier_attempts.filter(number=number).first()
    if earlier is None:
        return None
    found = copy(task)
    found.attempt = number
    for name, content in earlier.about_log.items():
        setattr(found, name, content)
    return found
