"""Relays Celery events of all projects to where Flower listens (DESIGN D10).

Every project has a channel prefix of its own, and a runner may publish events only there. The
relay drops those whose host name is no runner of that project, so that across projects nobody
can speak for another.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import threading
import time
from typing import Any

import redis
from django.db import connections

from runners.broker import administrator, database_number, project_prefix
from runners.models import Runner
from runners.quotas import Quota

logger = logging.getLogger(__name__)

MAXIMUM_EVENT_BYTES = 256 * 1024
NODES_SECONDS = 5.0
# Of one project. A task makes three events; a busy fleet some hundred a second.
EVENTS_PER_SECOND = 2000.0
EVENT_BYTES_PER_SECOND = 4.0 * 1024**2
FLOOD_NOTE_SECONDS = 10.0
_PROJECT = re.compile(rb"\Aforge:project:(\d{1,18}):(/\d+\.celeryev/[\w.-]{1,100})\Z")


class EventRelay(threading.Thread):
    """Blocks on a subscription; begins again one second after the broker went away."""

    def __init__(self, is_leading: threading.Event, is_closing: threading.Event) -> None:
        super().__init__(name="forge-events", daemon=True)
        self._is_leading = is_leading
        self._is_closing = is_closing
        self._nodes: dict[int, set[str]] = {}
        self._nodes_read = 0.0
        self._events = Quota(EVENTS_PER_SECOND, burst_seconds=5)
        self._bytes = Quota(EVENT_BYTES_PER_SECOND, burst_seconds=5)
        self._flood_noted = 0.0

    def run(self) -> None:
        while not self._is_closing.is_set():
            try:
                self._listen()
            except (redis.RedisError, OSError) as error:
                logger.debug("events: %s", error)
            self._is_closing.wait(1.0)

    def _listen(self) -> None:
        pattern = f"{project_prefix(0).replace('0', '*')}/{database_number()}.celeryev/*"
        subscriber = administrator().pubsub(  # type: ignore[no-untyped-call]
            ignore_subscribe_messages=True
        )
        with subscriber as subscription:
            subscription.psubscribe(pattern)
            while not self._is_closing.is_set():
                message = subscription.get_message(timeout=1.0)
                if message is not None and self._is_leading.is_set():
                    self._relay(message["channel"], message["data"])

    def _relay(self, channel: bytes, data: bytes) -> None:
        match = _PROJECT.match(channel)
        if match is None or len(data) > MAXIMUM_EVENT_BYTES:
            return
        if self._events.wait_before(match[1]) or self._bytes.wait_before(match[1], len(data)):
            # One project that floods must not keep this process from its other duties.
            self._note_flood(int(match[1]))
            return
        speakers = _speakers(data)
        if speakers and speakers <= self._nodes_of(int(match[1])):
            administrator().publish(match[2], data)

    def _note_flood(self, project_id: int) -> None:
        if time.monotonic() > self._flood_noted + FLOOD_NOTE_SECONDS:
            self._flood_noted = time.monotonic()
            logger.warning("events of project %d: too many, some are not relayed", project_id)

    def _nodes_of(self, project_id: int) -> set[str]:
        """The node names of a project's runners, read again every few seconds."""
        if time.monotonic() - self._nodes_read > NODES_SECONDS:
            self._nodes = {}
            for runner in Runner.objects.present():
                self._nodes.setdefault(runner.project_id, set()).add(runner.node_name)
            self._nodes_read = time.monotonic()
            connections.close_all()
        return self._nodes.get(project_id, set())


def _speakers(data: bytes) -> set[str]:
    """The host names in a message of one event or several; empty if it is no such message."""
    try:
        message = json.loads(data)
        body = message["body"]
        if message.get("properties", {}).get("body_encoding") == "base64":
            body = base64.b64decode(body, validate=True)
        events: Any = json.loads(body)
        events = events if isinstance(events, list) else [events]
        return {str(event["hostname"]) for event in events}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return set()
