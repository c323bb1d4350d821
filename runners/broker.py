"""Connections to the broker as its administrator, and the names of what lies there.

Every project has a key prefix of its own, `forge:project:<id>:`, always closed with a colon:
without it project 1 would match project 12.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit, urlunsplit

import redis
from celery import Celery
from django.conf import settings

if TYPE_CHECKING:
    from runners.models import Runner

PREFIX = "forge:"
LIVE_CHANNEL = "forge:live"
# How long a request may hang on a broker that does not answer, in seconds.
CONNECT_TIMEOUT = 1.0
ANSWER_TIMEOUT = 2.0

# What the server's and the runners' Celery have in common: no acknowledgement keys and no
# priority lists, so that a runner's account needs nothing but BRPOP on its queues.
TRANSPORT_OPTIONS = {"ack_emulation": False, "priority_steps": [0]}


def project_prefix(project_id: int) -> str:
    """The key prefix of everything that belongs to one project."""
    return f"{PREFIX}project:{project_id}:"


@cache
def administrator() -> redis.Redis:
    """The one client of this process that may do anything. Thread-safe, connects lazily."""
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_connect_timeout=CONNECT_TIMEOUT,
        socket_timeout=ANSWER_TIMEOUT,
        socket_keepalive=True,
        health_check_interval=30,
    )


@cache
def celery_app() -> Celery:
    """The Celery app that publishes hints and control messages; it runs no worker."""
    app = Celery("forge", broker=settings.REDIS_URL, fixups=[], set_as_current=False)
    app.conf.update(
        broker_transport_options={
            **TRANSPORT_OPTIONS,
            "global_keyprefix": PREFIX,
            "socket_connect_timeout": CONNECT_TIMEOUT,
            "socket_timeout": ANSWER_TIMEOUT,
            "socket_keepalive": True,
        },
        task_serializer="json",
        accept_content=["json"],
        broker_pool_limit=20,
        control_queue_expires=None,
    )
    return app


def runner_url(runner: Runner) -> str:
    """The broker URL for a runner: its account's name, without the token, which it knows."""
    parts = urlsplit(settings.FORGE_RUNNER_BROKER_URL)
    host = parts.hostname or "127.0.0.1"
    host = f"[{host}]" if ":" in host else host
    place = f"{quote(runner.account)}@{host}:{parts.port or 6379}"
    return urlunsplit((parts.scheme, place, parts.path or "/0", parts.query, ""))


def database_number() -> int:
    """The Redis database of the runners' URL: Celery's event channels carry it in their names."""
    path = urlsplit(settings.FORGE_RUNNER_BROKER_URL).path.strip("/")
    return int(path) if path.isdigit() else 0
