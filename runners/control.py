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

logger = logging.getLogger(__name__)

BEAT_COMMAND = "forge_beat"

_sender = ThreadPoolExecutor(max_workers=2, thread_name_prefix="forge-orders")


def send(runner: Runner, command: str, arguments: dict[str, object]) -> None:
    """Tell the runner's worker now, without waiting for the broker."""
    _sender.submit(_send, runner, command, arguments)


def ask_to_beat(runner: Runner) -> None:
    """Let the worker ask at once what has changed for it."""
    send(runner, BEAT_COMMAND, {})


def _send(runner: Runner, command: str, arguments: dict[str, object]) -> None:
    try:
        FleetControl(celery_app()).order(runner, command, arguments)
    except (OperationalError, OSError, redis.RedisError) as error:
        logger.warning("order %s to %s left to its heartbeat: %s", command, runner.name, error)
    except Exception:
        # Nobody asks what became of it.
        logger.exception("order %s to %s left to its heartbeat", command, runner.name)
