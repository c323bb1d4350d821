"""Orders to workers over Celery's control channel.

They are an accelerator: each order is also in the answer to the runner's next heartbeat.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import redis
from kombu.exceptions import OperationalError

from runners.broker import celery_app
from runners.fleet import FleetControl
from runners.models import Runner
from tasks.models import Task

logger = logging.getLogger(__name__)

STOP_COMMAND = "forge_stop"


_sender = ThreadPoolExecutor(max_workers=2, thread_name_prefix="forge-orders")


def order_stop(task: Task) -> None:
    """Tell the worker that holds the task to stop it now, without waiting for the broker."""
    if task.runner is not None:
        arguments = {"task": task.pk, "attempt": task.attempt, "reason": task.stop_reason}
        arguments["force"] = task.force_requested_at is not None
        _sender.submit(_send, task.runner, STOP_COMMAND, arguments)


def _send(runner: Runner, command: str, arguments: dict[str, object]) -> None:
    try:
        FleetControl(celery_app()).order(runner, command, arguments)
    except (OperationalError, OSError, redis.RedisError) as error:
        logger.warning("order %s to %s left to its heartbeat: %s", command, runner.name, error)
