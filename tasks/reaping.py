"""Tasks whose runner went silent: unreachable first; then their policy decides."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from projects.words import duration_in_words
from tasks.attempts import begin_next_attempt
from tasks.lifecycle import TaskState
from tasks.live import announce
from tasks.models import Task
from tasks.policies import LostRunnerPolicy
from tasks.publish import put_out_project
from tasks.transitions import REASON_LENGTH


def _always() -> bool:
    return True


def mark_silent(*, now: datetime, after: timedelta, goes_on: Callable[[], bool] = _always) -> int:
    """Mark what is held by runners unheard for `after` as unreachable; returns how many.

    `goes_on` is asked before each of them, and says whether what was true at `now` still is.
    """
    limit = now - after
    rows = Task.objects.silent_since(limit).without_scripts()
    silent = rows.exclude(state=TaskState.UNREACHABLE)
    count = 0
    for task in silent:
        if not goes_on():
            break
        if task.mark_unreachable(now=now, silent_since=limit):
            announce(task.pk)
            count += 1
    return count


def end_waits(
    *, now: datetime, ends_leases: bool = True, goes_on: Callable[[], bool] = _always
) -> int:
    """Do what the policies say where the wait is over; returns with how many tasks.

    Without `ends_leases` nothing is done where the end of a lease decides: whether it has come is
    not certain. `goes_on` as for `mark_silent`.
    """
    overdue = Task.objects.overdue(now).select_related("runner").without_scripts()
    if not ends_leases:
        overdue = overdue.exclude(lost_runner_policy=LostRunnerPolicy.RETRY)
    count = 0
    for task in overdue:
        if not goes_on():
            break
        count += _end_wait(task, now=now)
    return count


def _end_wait(task: Task, *, now: datetime) -> bool:
    if task.may_retry:
        return begin_next_attempt(task=task, state=TaskState.LOST, reason=_gone(task), now=now)
    is_ended = _is_stopped(task, now=now) or task.lose_overdue(
        reason=_why_lost(task, now=now), now=now
    )
    if is_ended:
        announce(task.pk)
        put_out_project(task.project_id)
    return is_ended


def _is_stopped(task: Task, *, now: datetime) -> bool:
    """Somebody asked for a stop, and the end of the lease has brought it about."""
    if task.stop_requested_at is None:
        return False
    reason = f"{task.stop_reason} {_gone(task)}"[:REASON_LENGTH]
    return task.stop_unreachable(reason=reason, now=now)


def _gone(task: Task) -> str:
    """For what its runner ends itself: a lost runner is no riddle then."""
    return f"Runner {task.runner} was out of reach, and ends its processes with their lease."


def _why_lost(task: Task, *, now: datetime) -> str:
    policy = LostRunnerPolicy(task.lost_runner_policy)
    if policy == LostRunnerPolicy.RETRY:
        last = f" This was attempt {task.attempt} of {task.max_attempts}, so there is no other."
        return _gone(task) + (last if task.stop_requested_at is None else "")
    silent = f"Runner {task.runner} went silent, and nobody could say how the task ended"
    if policy == LostRunnerPolicy.FAIL:
        return f"{silent}. Its template says to give up at once; it may have run on there."
    since = task.unreachable_at
    waited = duration_in_words((now - since).total_seconds()) if since else "long enough"
    wanted = f" {task.stop_reason} That did not reach it." if task.stop_requested_at else ""
    return f"{silent}: Forge waited {waited}. It may have run on there.{wanted}"[:REASON_LENGTH]
