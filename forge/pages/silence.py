"""What becomes of the tasks of a runner that is not heard any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from forge.pages.timeline import ONCE_LISTENED, is_overdue, outcome_of_wait
from tasks.lifecycle import TaskState
from tasks.models import Task
from tasks.sentences import clock

if TYPE_CHECKING:
    from datetime import datetime

    from runners.models import Runner

NAMED = 3


class Fate(NamedTuple):
    """A task, and what stands after its number."""

    pk: int
    words: str


def fates_of_held(runner: Runner, *, now: datetime) -> tuple[list[Fate], int]:
    """What each of a few of the tasks waits for that it holds, and how many more it holds."""
    held = Task.objects.held_by(runner).order_by()
    tasks = sorted(held.without_scripts(), key=lambda task: task.pk)
    named = tasks[:NAMED]
    return [Fate(task.pk, _fate(task, now)) for task in named], len(tasks) - len(named)


def _fate(task: Task, now: datetime) -> str:
    if task.state != TaskState.UNREACHABLE or task.wait_ends_at is None:
        return "was running."
    what = {"another attempt": "is tried anew", "stopped": "is stopped"}
    then = what.get(outcome_of_wait(task), "counts as lost")
    if is_overdue(task, now=now):
        return f"{then} {ONCE_LISTENED}."
    return f"waits until {clock(task.wait_ends_at, now)}, then {then}."


def lacks_its_token(runner: Runner, *, now: datetime) -> bool:
    """Whether no token works any more that its worker has: the newest was never used.

    Such a worker ends itself and its tasks as soon as it hears of that.
    """
    current = runner.current_token
    if runner.last_heartbeat_at is None or current is None or current.last_used_at is not None:
        return False
    has_ended = any(token.expires_at is not None for token in runner.tokens.all())
    return has_ended and not runner.older_tokens(now=now)
