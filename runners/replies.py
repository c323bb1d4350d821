"""Workers' answers to inspections and orders, read with suspicion for Flower.

Any runner of a project may write into the lists that Flower reads its answers from, so what comes
may be malformed, in somebody else's name, or made to break the page that shows it. Each answer is
made anew in the shape that Celery documents for its command ("Remote control", workers' guide)
and that Flower's pages rely on; one that does not fit is left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from runners.broker import project_prefix
from runners.events import JOB_NAME, read_body, read_hint_id
from runners.worker.fields import printable

MAXIMUM_REPLY_BYTES = 256 * 1024
MAXIMUM_TEXT = 500
MAXIMUM_ITEMS = 1000
MAXIMUM_DEPTH = 4
_LARGEST = 2**53

Attempt = tuple[int, int]
# Of these (task, attempt), which are the project's.
Owned = Callable[[int, set[Attempt]], set[Attempt]]


@dataclass(frozen=True)
class Reply:
    """What one node answered, in the shape of its command."""

    node: str
    answer: Any


@dataclass(frozen=True)
class ReplyReader:
    """Reads the answers of one project's nodes to one command."""

    project_id: int
    command: str
    ticket: str
    owned: Owned

    def read(self, data: bytes) -> Reply | None:
        """The answer in a message from the project's list; None if it is none that may be shown."""
        body = read_body(data) if len(data) <= MAXIMUM_REPLY_BYTES else None
        if not isinstance(body, dict) or len(body) != 1 or _ticket(data) != self.ticket:
            return None
        node, answer = next(iter(body.items()))
        shaped: Any = self._shaped(answer)
        return None if shaped is None else Reply(node, shaped)

    def _shaped(self, answer: Any) -> Any:
        if self.command in _OF_TASKS:
            return self._tasks(answer, _OF_TASKS[self.command])
        if self.command == "scheduled":
            return []  # Forge gives no task a time: waiting is done in the database
        if self.command == "active_queues":
            return self._queues(answer)
        shape: Callable[[Any], Any] = _SHAPES.get(self.command, _any_object)
        return shape(answer)

    def _tasks(self, answer: Any, describe: Callable[[Attempt, Any], Any]) -> list[Any] | None:
        """Those of the listed tasks that are the project's."""
        if not isinstance(answer, list):
            return None
        listed = [(read_hint_id(_id_of(item)), item) for item in answer[:MAXIMUM_ITEMS]]
        owned = self.owned(self.project_id, {attempt for attempt, _ in listed if attempt})
        return [describe(attempt, item) for attempt, item in listed if attempt and attempt in owned]

    def _queues(self, answer: Any) -> list[Any] | None:
        """Named as their keys are, so that Flower's page about the broker finds their length."""
        if not isinstance(answer, list):
            return None
        given = [item.get("name") for item in answer[:MAXIMUM_ITEMS] if isinstance(item, dict)]
        names = [name for name in given if isinstance(name, str)]
        prefix = project_prefix(self.project_id)
        return [_queue(prefix + printable(name, MAXIMUM_TEXT)) for name in names]


def _ticket(data: bytes) -> Any:
    headers = json.loads(data).get("headers")
    return headers.get("ticket") if isinstance(headers, dict) else None


def _id_of(item: Any) -> Any:
    return item.get("id") if isinstance(item, dict) else item


def _describe_active(attempt: Attempt, item: Any) -> dict[str, Any]:
    given = item if isinstance(item, dict) else {}
    return {
        "id": f"{attempt[0]}.{attempt[1]}",
        "name": JOB_NAME,
        "args": f"[{attempt[0]}, {attempt[1]}]",
        "kwargs": "{}",
        "acknowledged": given.get("acknowledged") is True,
        "worker_pid": _number(given.get("worker_pid")),
        "time_start": _number(given.get("time_start")),
    }


def _describe_revoked(attempt: Attempt, item: Any) -> str:
    return f"{attempt[0]}.{attempt[1]}"


_OF_TASKS: Mapping[str, Callable[[Attempt, Any], Any]] = {
    "active": _describe_active,
    "reserved": _describe_active,
    "revoked": _describe_revoked,
}


def _queue(name: str) -> dict[str, Any]:
    """As Forge declares every queue of a runner."""
    return {
        "name": name,
        "exchange": {"name": "", "type": "direct"},
        "routing_key": name,
        "alias": None,
        "durable": True,
        "exclusive": False,
        "auto_delete": False,
        "no_ack": None,
        "queue_arguments": None,
        "binding_arguments": None,
    }


def _number(value: Any) -> float | int | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and -_LARGEST <= value <= _LARGEST else None


def _stats(answer: Any) -> dict[str, Any] | None:
    """The page counts on `total` and `broker`, and calculates with times."""
    if not isinstance(answer, dict):
        return None
    shown = _any_object(answer)
    total = _numbers(answer.get("total"))
    if shown is None or total is None:
        return None
    rest = {name: shown[name] for name in ("pool", "broker") if isinstance(shown.get(name), dict)}
    numbers = {name: _number(answer.get(name)) for name in ("pid", "prefetch_count", "uptime")}
    found = {name: number for name, number in numbers.items() if number is not None}
    rusage = _numbers(answer.get("rusage"))
    return {"broker": {}, "pool": {}, **rest, **found, "total": total, "rusage": rusage or "N/A"}


def _numbers(value: Any) -> dict[str, float | int] | None:
    if not isinstance(value, dict):
        return None
    pairs = ((printable(name, MAXIMUM_TEXT), _number(item)) for name, item in value.items())
    return {name: item for name, item in list(pairs)[:MAXIMUM_ITEMS] if item is not None}


def _texts(answer: Any) -> list[str] | None:
    if not isinstance(answer, list):
        return None
    texts = (one for one in answer[:MAXIMUM_ITEMS] if isinstance(one, str))
    return [printable(one, MAXIMUM_TEXT) for one in texts]


def _any_object(answer: Any) -> dict[str, Any] | None:
    """Any JSON object, bounded; also the answers to orders, `{"ok": …}` and `{"error": …}`."""
    if not isinstance(answer, dict):
        return None
    bounded: dict[str, Any] = _bounded(answer, MAXIMUM_DEPTH)
    return bounded


def _bounded(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return printable(value, MAXIMUM_TEXT)
    if value is None or isinstance(value, bool):
        return value
    if depth == 0 or not isinstance(value, dict | list):
        return _number(value)
    if isinstance(value, list):
        return [_bounded(item, depth - 1) for item in value[:MAXIMUM_ITEMS]]
    items = list(value.items())[:MAXIMUM_ITEMS]
    return {printable(name, MAXIMUM_TEXT): _bounded(item, depth - 1) for name, item in items}


_SHAPES: Mapping[str, Callable[[Any], Any]] = {"stats": _stats, "registered": _texts}
