"""What one task's page shows, on the page itself and in each change that follows."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any

from forge.pages import fleet
from forge.pages.silence import lacks_its_token
from forge.pages.timeline import (
    ONCE_LISTENED,
    is_overdue,
    outcome_of_wait,
    steps_of,
    usual_seconds,
)
from tasks.attempts import attempts_of
from tasks.lifecycle import HELD, TaskState
from tasks.models import Task
from tasks.sources import Sources
from tasks.template_changes import changed_parts, why_not_runnable
from tasks.waiting import explain

# Lines that a phone shows of a log at once (62vh in forge.css): one that has ended takes no more.
SHORT_LOG = 25
STOPPABLE = (HELD | {TaskState.QUEUED, TaskState.AWAITING_APPROVAL}) - {TaskState.STOPPING}


def task_context(task: Task, *, now: datetime) -> dict[str, Any]:
    waiting = explain(task, now)
    usual = usual_seconds(task)
    sentence = waiting.sentence if waiting else ""
    runner = task.runner
    return {
        "task": task,
        "since": badge_since(task),
        "sentence": sentence_of(task, now=now),
        "steps": steps_of(
            task, usual=usual, waits_for=waiting.waits_for if waiting else "", now=now
        ),
        "waiting": waiting,
        "runner_row": fleet.row_of(runner, now=now) if runner else None,
        "environment": list(task.environment.items()),
        "sources": Sources.noted(task),
        "required": sorted(task.queue.required_tags),
        "reruns": list(task.reruns.order_by("pk").values_list("pk", flat=True)[:5]),
        "stoppable": is_stoppable(task),
        "forcible": is_forcible(task),
        "attempts": attempts_of(task),
        "rerun_refusal": str(why_not_runnable(task.template) or "") if task.is_finished else "",
        # Asked only for those who may run it: it reads the template's script.
        "rerun_asks": partial(_asks_before_rerun, task),
        "marks": marks_of(task, sentence, now=now),
        "is_short": task.is_finished and task.log_lines <= SHORT_LOG,
    }


def _asks_before_rerun(task: Task) -> bool:
    return bool(changed_parts(task))


def marks_of(task: Task, sentence: str, *, now: datetime) -> str:
    """Changes whenever something on the page but the log does."""
    moments = [task.claimed_at, task.started_at, task.stop_requested_at, task.finished_at]
    moments += [task.force_requested_at, task.unreachable_at]
    log = (task.log_gap_offset, task.log_written_bytes, is_overdue(task, now=now))
    return "|".join(str(item) for item in (task.state, task.attempt, *moments, sentence, *log))


def _is_stop_noted(task: Task) -> bool:
    """Whether a stop waits for the runner to come back."""
    return task.state == TaskState.UNREACHABLE and task.stop_requested_at is not None


def is_stoppable(task: Task) -> bool:
    """Whether a stop can be asked for, which was not yet."""
    return task.state in STOPPABLE and not _is_stop_noted(task)


def is_forcible(task: Task) -> bool:
    """As elsewhere, force is offered to those whom a stop has not helped."""
    if task.state == TaskState.UNREACHABLE:
        return True
    return task.state == TaskState.STOPPING and task.force_requested_at is None


def is_silent_for_its_token(task: Task, *, now: datetime) -> bool:
    """Whether its runner will not be heard before somebody gives its host the new token."""
    runner = task.runner if task.state == TaskState.UNREACHABLE else None
    return runner is not None and lacks_its_token(runner, now=now)


def badge_since(task: Task) -> datetime | None:
    """Since when the present state lasts; None for a finished task."""
    moments = {
        TaskState.AWAITING_APPROVAL: task.created_at,
        TaskState.QUEUED: task.queued_at,
        TaskState.STARTING: task.claimed_at,
        TaskState.RUNNING: task.started_at,
        TaskState.STOPPING: task.stop_requested_at,
        TaskState.UNREACHABLE: task.unreachable_at,
    }
    return moments.get(TaskState(task.state))


def sentence_of(task: Task, *, now: datetime) -> str:
    """What stands beside the badge: how it ended, or what it is about."""
    if task.is_finished:
        return task.reason
    if task.state == TaskState.STOPPING:
        return task.stop_reason
    if is_silent_for_its_token(task, now=now):
        return (
            f"{task.runner} is silent: its token was ended, and its worker never used the new one. "
            "It ends the task when it hears of that; given the new token, it says how it ended."
        )
    if is_overdue(task, now=now):
        what = {"another attempt": "Another attempt begins", "stopped": "It is stopped"}
        then = what.get(outcome_of_wait(task), "It counts as lost")
        return f"{task.runner} was not heard in time. {then} {ONCE_LISTENED}."
    if task.state == TaskState.UNREACHABLE and task.stop_requested_at:
        lease = " or when the task's lease has ended" if task.ends_with_lease else ""
        return f"{task.stop_reason} It takes effect when {task.runner} is heard again{lease}."
    if task.state == TaskState.UNREACHABLE:
        return f"{task.runner} is silent. The task goes on if it comes back in time."
    return task.template.description
