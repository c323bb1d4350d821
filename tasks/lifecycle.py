"""The state machine of a task: states, and which may follow which.

This is the only place that knows; `Task` asks it before each conditional update. Drawn in
docs/architecture.md.
"""

from __future__ import annotations

from django.db.models import TextChoices


class TaskState(TextChoices):
    AWAITING_APPROVAL = "awaiting_approval", "Needs approval"
    QUEUED = "queued", "Queued"
    STARTING = "starting", "Starting"
    RUNNING = "running", "Running"
    STOPPING = "stopping", "Stopping"
    UNREACHABLE = "unreachable", "Unreachable"
    SUCCEEDED = "succeeded", "Succeeded"
    FAILED = "failed", "Failed"
    STOPPED = "stopped", "Stopped"
    LOST = "lost", "Lost"


_S = TaskState

FOLLOWERS: dict[TaskState, frozenset[TaskState]] = {
    _S.AWAITING_APPROVAL: frozenset({_S.QUEUED, _S.STOPPED}),
    _S.QUEUED: frozenset({_S.STARTING, _S.STOPPED}),
    _S.STARTING: frozenset({_S.RUNNING, _S.STOPPING, _S.UNREACHABLE, _S.FAILED}),
    _S.RUNNING: frozenset({_S.STOPPING, _S.UNREACHABLE, _S.SUCCEEDED, _S.FAILED, _S.STOPPED}),
    _S.STOPPING: frozenset({_S.UNREACHABLE, _S.STOPPED, _S.FAILED}),
    _S.UNREACHABLE: frozenset(
        {_S.RUNNING, _S.STOPPING, _S.SUCCEEDED, _S.FAILED, _S.STOPPED, _S.QUEUED, _S.LOST}
    ),
    _S.SUCCEEDED: frozenset(),
    _S.FAILED: frozenset(),
    _S.STOPPED: frozenset(),
    _S.LOST: frozenset(),
}

TERMINAL = frozenset(state for state, followers in FOLLOWERS.items() if not followers)
# A runner holds it: it takes one of the runner's slots and one of the project's.
HELD = frozenset({_S.STARTING, _S.RUNNING, _S.STOPPING, _S.UNREACHABLE})
UNFINISHED = frozenset(_S) - TERMINAL
# Ended as nobody wished.
BAD = frozenset({_S.FAILED, _S.LOST})


def predecessors(state: TaskState) -> frozenset[TaskState]:
    """The states from which a task may enter `state`."""
    return frozenset(before for before, followers in FOLLOWERS.items() if state in followers)
