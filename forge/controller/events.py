"""Relays Celery events of all projects to where Flower listens (DESIGN D10).

Every project has a channel prefix of its own, and a runner may publish events only there. The
relay writes each event anew (`runners/events.py`), and drops those whose host name is no runner
of that project or whose task is none of its tasks, so that across projects nobody can speak for
another.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from typing import Any

from django.db import connections

from forge.controller.loop import AWAY, Trouble
from forge.controller.owners import Nodes, TaskOwners
from runners.broker import administrator, database_number, project_prefix
from runners.events import MAXIMUM_EVENT_BYTES, FleetEvent, read_events, tasks_of, write_event
from runners.quotas import Quota

logger = logging.getLogger(__name__)

# Of one project. A task makes three events; a busy fleet some hundred a second.
EVENTS_PER_SECOND = 2000.0
EVENT_BYTES_PER_SECOND = 4.0 * 1024**2
FLOOD_NOTE_SECONDS = 10.0
# What came together is looked up together.
BATCH_MESSAGES = 200
# After a look-up, so that no flood of unknown tasks makes more than 50 queries a second.
LOOKUP_PAUSE_SECONDS = 0.02
_PROJECT = re.compile(rb"\Aforge:project:(\d{1,18}):/\d+\.celeryev/[\w.-]{1,100}\Z")


class EventRelay(threading.Thread):
    """Blocks on a subscription; begins again one second after broker or database went away.

    So it does after any other error: one message that nobody thought of must not end the events of
    all projects.
    """

    def __init__(self, is_leading: threading.Event, is_closing: threading.Event) -> None:
        super().__init__(name="forge-events", daemon=True)
        self._is_leading = is_leading
        self._is_closing = is_closing
        self._nodes = Nodes()
        self._owners = TaskOwners()
        self._events = Quota(EVENTS_PER_SECOND, burst_seconds=5)
        self._bytes = Quota(EVENT_BYTES_PER_SECOND, burst_seconds=5)
        self._flood_noted = 0.0
        self._trouble = Trouble("events")

    def run(self) -> None:
        while not self._is_closing.is_set():
            try:
                self._listen()
            except AWAY as error:
                logger.debug("events: %s", error)
            except Exception as error:
                self._trouble.note_error(error)
            finally:
                connections.close_all()
            self._is_closing.wait(1.0)

    def _listen(self) -> None:
        pattern = f"{project_prefix(0).replace('0', '*')}/{database_number()}.celeryev/*"
        subscriber = administrator().pubsub(  # type: ignore[no-untyped-call]
            ignore_subscribe_messages=True
        )
        with subscriber as subscription:
            subscription.psubscribe(pattern)
            while not self._is_closing.is_set():
                batch = _batch(subscription)
                if self._is_leading.is_set() and self._relay(batch):
                    self._is_closing.wait(LOOKUP_PAUSE_SECONDS)
                if batch:
                    self._trouble.note_recovery()

    def _relay(self, messages: list[dict[str, Any]]) -> bool:
        """Pass on what may be passed on; returns whether the database was asked about tasks."""
        spoken: dict[int, list[FleetEvent]] = {}
        for message in messages:
            project_id, events = self._read(message["channel"], message["data"])
            if events:
                spoken.setdefault(project_id, []).extend(events)
        has_asked = self._owners.learn({one: tasks_of(events) for one, events in spoken.items()})
        pipeline = administrator().pipeline(transaction=False)
        for project_id, events in spoken.items():
            for event in events:
                if event.task is None or self._owners.know(project_id, event.task):
                    key, data = write_event(event)
                    pipeline.publish(f"/{database_number()}.celeryev/{key}", data)
        pipeline.execute()
        return has_asked

    def _read(self, channel: bytes, data: bytes) -> tuple[int, list[FleetEvent]]:
        """The project whose channel it is, and its own runners' events in the message."""
        match = _PROJECT.match(channel)
        if match is None or len(data) > MAXIMUM_EVENT_BYTES:
            return 0, []
        project_id = int(match[1])
        # In debt, it is refused before anything is read: reading costs far more than refusing.
        is_in_debt = self._events.wait_before(project_id, 0) > 0
        if is_in_debt or self._bytes.wait_before(project_id, len(data)):
            self._note_flood(project_id)
            return project_id, []
        events = read_events(data, now=time.time())
        if self._events.wait_before(project_id, max(1, len(events))):
            # One project that floods must not keep this process from its other duties.
            self._note_flood(project_id)
            return project_id, []
        return project_id, [one for one in events if self._nodes.know(project_id, one.node)]

    def _note_flood(self, project_id: int) -> None:
        if time.monotonic() > self._flood_noted + FLOOD_NOTE_SECONDS:
            self._flood_noted = time.monotonic()
            logger.warning("events of project %d: too many, some are not relayed", project_id)


def _batch(subscription: Any) -> list[dict[str, Any]]:
    """What has come, after at most a second; nothing if nothing did."""
    found: list[dict[str, Any]] = []
    message = subscription.get_message(timeout=1.0)
    while message is not None:
        found.append(message)
        if len(found) >= BATCH_MESSAGES:
            break
        message = subscription.get_message(timeout=0)
    return found
