"""Connections to the broker as its administrator, and the names of what lies there.

Every project has a key prefix of its own, `forge:project:<id>:`, always closed with a colon:
without it project 1 would match project 12.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit, urlunsplit

import redis
import redis.connection
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


def require_writes() -> None:
    """Raise redis.RedisError unless the broker takes new data, as hints need it.

    It is redis.ResponseError where its memory is full, its replicas are missing, or it is a
    replica itself.
    """
    # Nothing, written into a string that is not there, makes no key.
    administrator().setrange(f"{PREFIX}try", 0, "")


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
    """The broker URL for a runner: its account's name, without the token, which it knows.

    Empty when it comes through the tunnel, at the address under which it finds Forge.
    """
    if not settings.FORGE_RUNNER_BROKER_URL:
        return ""
    parts = urlsplit(settings.FORGE_RUNNER_BROKER_URL)
    host = parts.hostname or "127.0.0.1"
    host = f"[{host}]" if ":" in host else host
    place = f"{quote(runner.account)}@{host}:{parts.port or 6379}"
    return urlunsplit((parts.scheme, place, parts.path or "/0", parts.query, ""))


def database_number() -> int:
    """The Redis database, which Celery's event channels carry in their names."""
    path = urlsplit(settings.REDIS_URL).path.strip("/")
    return int(path) if path.isdigit() else 0


@dataclass(frozen=True)
class Place:
    """Where the broker listens for this process: a unix socket, or host and port."""

    host: str = "127.0.0.1"
    port: int = 6379
    socket: str = ""
    tls: ssl.SSLContext | None = None


@cache
def place_of(url: str) -> Place:
    """The place that a `redis://`, `rediss://` or `unix://` URL names, without its credentials."""
    parts = redis.connection.parse_url(url)  # type: ignore[no-untyped-call]
    if "path" in parts:
        return Place(socket=str(parts["path"]))
    tls = None
    if parts.get("connection_class") is redis.connection.SSLConnection:
        tls = _tls(dict(parts))
    return Place(str(parts.get("host", "127.0.0.1")), int(parts.get("port", 6379)), tls=tls)


def _tls(options: dict[str, object]) -> ssl.SSLContext:
    """As redis-py reads the options of a `rediss://` URL."""
    authority = options.get("ssl_ca_certs")
    context = ssl.create_default_context(cafile=str(authority) if authority else None)
    if certificate := options.get("ssl_certfile"):
        key = options.get("ssl_keyfile")
        context.load_cert_chain(str(certificate), str(key) if key else None)
    if options.get("ssl_check_hostname") is False or options.get("ssl_cert_reqs") == "none":
        context.check_hostname = False
    if options.get("ssl_cert_reqs") == "none":
        context.verify_mode = ssl.CERT_NONE
    return context
