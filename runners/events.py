"""Celery events as runners publish them, read with suspicion and written anew for Flower.

A runner may publish whatever it likes under its own project's prefix. Nothing of a message is
passed on as it came: known events are picked out, known fields of each are bounded, and a new
envelope is made. A field that Celery's state would take for one of its own (`heartbeats`,
`alive`), a clock that puts one project's tasks above all others, or an envelope in another
content type would each be felt by everybody who looks at Flower.

Fields and types of events: Celery's user guide, "Event Reference".
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from runners.worker.fields import printable

# The one job that runners have; an event about another is about nothing of Forge's.
JOB_NAME = "forge.run_task"
MAXIMUM_EVENT_BYTES = 256 * 1024
# Of one message. A worker sends up to 24 at once, and what it kept during a cut one by one.
MAXIMUM_EVENTS = 500
MAXIMUM_TEXT = 500
MAXIMUM_NAME = 64
# A runner's clock that is further off is not believed: its events happened when they arrived.
MAXIMUM_DRIFT_SECONDS = 60.0
# Flower takes a worker for alive for twice this long after its last heartbeat.
LONGEST_HEARTBEAT_SECONDS = 60.0
_LARGEST = 2**53
_HINT = re.compile(r"\A([1-9]\d{0,17})\.([1-9]\d{0,8})\Z")

Reader = Callable[[Any], Any]


def _number(smallest: float, largest: float) -> Reader:
    def read(value: Any) -> Any:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return value if is_number and smallest <= value <= largest else None

    return read


def _text(maximum: int) -> Reader:
    return lambda value: printable(value, maximum) if isinstance(value, str) else None


def _loads(value: Any) -> Any:
    """Three load averages, as `os.getloadavg` gives them."""
    read = _number(0, 1e6)
    if not isinstance(value, list) or len(value) != 3:
        return None
    return None if any(read(item) is None for item in value) else value


def _flag(value: Any) -> Any:
    return value if isinstance(value, bool) else None


_COUNT = _number(0, _LARGEST)
_PROCESS: Mapping[str, Reader] = {"pid": _number(1, 2**31)}
_WORKER: Mapping[str, Reader] = {
    **_PROCESS,
    "freq": _number(0.1, LONGEST_HEARTBEAT_SECONDS),
    "active": _COUNT,
    "processed": _COUNT,
    "loadavg": _loads,
    "sw_ident": _text(MAXIMUM_NAME),
    "sw_ver": _text(MAXIMUM_NAME),
    "sw_sys": _text(MAXIMUM_NAME),
}
# What is not named here is left out: lineage (`root_id`, `parent_id`) could point at another
# project's task, tracebacks are for the runner's own log.
FIELDS: Mapping[str, Mapping[str, Reader]] = {
    "worker-online": _WORKER,
    "worker-heartbeat": _WORKER,
    "worker-offline": _WORKER,
    "task-received": {**_PROCESS, "retries": _number(0, 0)},
    "task-started": _PROCESS,
    "task-succeeded": {**_PROCESS, "runtime": _number(0, 1e9), "result": _text(MAXIMUM_TEXT)},
    "task-failed": {**_PROCESS, "exception": _text(MAXIMUM_TEXT)},
    "task-revoked": {
        **_PROCESS,
        "terminated": _flag,
        "expired": _flag,
        "signum": _text(MAXIMUM_TEXT),
    },
    "task-rejected": {**_PROCESS, "requeue": _flag},
}


@dataclass(frozen=True)
class FleetEvent:
    """One event of one worker; `task` is (task id, attempt) for events about a task."""

    kind: str
    node: str
    task: tuple[int, int] | None
    fields: Mapping[str, Any]


def read_hint_id(value: Any) -> tuple[int, int] | None:
    """Task and attempt of a Celery message id of Forge's, such as `48213.1`."""
    match = _HINT.match(value) if isinstance(value, str) else None
    return (int(match[1]), int(match[2])) if match else None


def read_events(data: bytes, *, now: float) -> list[FleetEvent]:
    """The events in a message that came at `now` (seconds since the epoch).

    What is no event of a worker of Forge is passed over; a message that is none gives nothing.
    """
    if len(data) > MAXIMUM_EVENT_BYTES:
        return []
    events = read_body(data)
    events = events if isinstance(events, list) else [events]
    found = (_event(item, now) for item in events[:MAXIMUM_EVENTS])
    return [event for event in found if event is not None]


def read_body(data: bytes) -> Any:
    """What a kombu message over Redis carries, if it is JSON; otherwise None."""
    try:
        message = json.loads(data)
        body = message["body"]
        if message.get("properties", {}).get("body_encoding") == "base64":
            body = base64.b64decode(body, validate=True)
        return json.loads(body)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error):
        return None


def _event(given: Any, now: float) -> FleetEvent | None:
    if not isinstance(given, dict):
        return None
    kind, node = given.get("type"), given.get("hostname")
    if not isinstance(kind, str) or not isinstance(node, str) or kind not in FIELDS:
        return None
    fields = {name: read(given.get(name)) for name, read in FIELDS[kind].items()}
    kept = {name: value for name, value in fields.items() if value is not None}
    kept["timestamp"] = _time(given.get("timestamp"), now)
    if not kind.startswith("task-"):
        return FleetEvent(kind, node, None, kept)
    task = read_hint_id(given.get("uuid"))
    if task is None or given.get("name", JOB_NAME) != JOB_NAME:
        return None
    return FleetEvent(kind, node, task, {**kept, **_about(kind, task, kept)})


def _about(kind: str, task: tuple[int, int], fields: Mapping[str, Any]) -> dict[str, Any]:
    """What Flower shows of a task and Forge knows better than the runner."""
    about: dict[str, Any] = {"uuid": f"{task[0]}.{task[1]}"}
    if kind == "task-received":
        about |= {"name": JOB_NAME, "args": f"[{task[0]}, {task[1]}]", "kwargs": "{}"}
    if kind == "task-revoked" and "signum" in fields:
        # Celery says here by what a task was ended; Flower shows `exception`, but not this.
        about["exception"] = fields["signum"]
    return about


def _time(given: Any, now: float) -> float:
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    # Before anything is calculated: a whole number of 400 digits has no form as a float.
    if not is_number or not -_LARGEST <= given <= _LARGEST:
        return now
    if abs(given - now) > MAXIMUM_DRIFT_SECONDS:
        return now
    return float(given)


def write_event(event: FleetEvent) -> tuple[str, bytes]:
    """Routing key and message (kombu's, over Redis) of one event.

    Without `clock`, Celery's receiver numbers events as they arrive, which no runner can skew;
    without `utcoffset` it takes times as they are.
    """
    body = {"type": event.kind, "hostname": event.node, **event.fields}
    message = {
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {},
        "properties": {
            "body_encoding": "base64",
            "delivery_info": {"exchange": "celeryev", "routing_key": event.kind},
            "delivery_mode": 1,
            "delivery_tag": str(uuid.uuid4()),
            "priority": 0,
        },
    }
    return event.kind.replace("-", "."), json.dumps(message).encode()


def tasks_of(events: Iterable[FleetEvent]) -> set[tuple[int, int]]:
    """(task, attempt) of those that are about one."""
    return {event.task for event in events if event.task is not None}
