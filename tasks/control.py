"""Orders to workers that concern a task; they also come with the next heartbeat's answer."""

from __future__ import annotations

from runners.control import send
from tasks.models import Task

STOP_COMMAND = "forge_stop"


def order_stop(task: Task) -> None:
    """Tell the worker that holds the task to stop it now, without waiting for the broker."""
    if task.runner is not None:
        arguments = {"task": task.pk, "attempt": task.attempt, "reason": task.stop_reason}
        arguments["force"] = task.force_requested_at is not None
        send(task.runner, STOP_COMMAND, arguments)
