"""Inspect and control over all projects, for Flower and for Forge's own orders.

Each project's workers listen under their own key prefix, so one broadcast becomes one a project.
Answers are collected for all projects at once, each in a list under its project's prefix, and
only those that a node of that project may give are passed on (`runners/replies.py`).
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import redis
from celery.app.control import Control
from django.db import close_old_connections
from kombu import Connection
from kombu.exceptions import OperationalError

from runners.broker import TRANSPORT_OPTIONS, administrator, project_prefix
from runners.models import Runner
from runners.replies import Attempt, Reply, ReplyReader

logger = logging.getLogger(__name__)

_NODE = re.compile(r"\Arunner-(\d{1,18})@")
# Of one project, this many messages a node are looked at; a flood must not keep the others
# from being heard.
MESSAGES_PER_NODE = 4
# One wait on the broker; shorter than its client's patience (`ANSWER_TIMEOUT`).
SLICE_SECONDS = 1.0


@dataclass
class Asked:
    """A question to one project's nodes, and what has come back."""

    list_key: bytes
    reader: ReplyReader
    nodes: frozenset[str]
    replies: dict[str, Reply] = field(default_factory=dict)
    messages: int = 0

    @property
    def is_done(self) -> bool:
        """Everybody answered, or somebody sent far too much."""
        is_flooded = self.messages >= MESSAGES_PER_NODE * max(1, len(self.nodes))
        return is_flooded or self.nodes <= self.replies.keys()

    def hear(self, data: bytes) -> Reply | None:
        """Take one message; returns the reply in it if it is a node's first and its own."""
        self.messages += 1
        reply = self.reader.read(data)
        if reply is None or reply.node not in self.nodes or reply.node in self.replies:
            return None
        self.replies[reply.node] = reply
        return reply


class FleetControl(Control):  # type: ignore[misc]
    """Celery's remote control client, for a fleet with a key prefix a project."""

    mailbox: Any

    def own_tasks(self, project_id: int, attempts: set[Attempt]) -> set[Attempt]:
        """Which of the attempts are of the project's tasks. This app knows of no tasks: none."""
        return set()

    def broadcast(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        destination: Sequence[str] | None = None,
        connection: Connection | None = None,
        reply: bool = False,
        timeout: float = 1.0,
        limit: int | None = None,
        callback: Any = None,
        channel: Any = None,
        pattern: str | None = None,
        matcher: Any = None,
        **extra: Any,
    ) -> list[Any] | None:
        """As Celery's; `connection` and `channel` are not used, they have no prefix.

        Raises kombu's OperationalError while the broker is away. What one project's runners did
        to their own keys is logged, and keeps nobody else from being asked.
        """
        message = {"command": command, "pattern": pattern, "matcher": matcher, "timeout": timeout}
        message["arguments"] = dict(arguments or {}, **extra)
        asked: list[Asked] = []
        with ExitStack() as stack:
            for project_id, nodes in _by_project(destination).items():
                with _excused(project_id):
                    mailbox = stack.enter_context(self._mailbox(project_id))
                    names = sorted(nodes) if destination is not None else None
                    if reply:
                        stack.callback(_forget_list, mailbox, project_id)
                        asked.append(self._ask(mailbox, project_id, nodes, message, names))
                    else:
                        _publish(mailbox, project_id, message, names)
            if not reply:
                return None
            return [{one.node: one.answer} for one in _collect(asked, timeout, limit, callback)]

    def _ask(
        self,
        mailbox: Any,
        project_id: int,
        nodes: frozenset[str],
        message: Mapping[str, Any],
        names: list[str] | None,
    ) -> Asked:
        ticket = str(uuid.uuid4())
        _publish(mailbox, project_id, message, names, ticket)
        reader = ReplyReader(project_id, message["command"], ticket, self.own_tasks)
        key = f"{project_prefix(project_id)}{mailbox.reply_queue.name}"
        return Asked(key.encode(), reader, nodes)

    def order(self, runner: Runner, command: str, arguments: Mapping[str, Any]) -> None:
        """Tell one runner's worker something; asks no database and waits for no answer."""
        with self._mailbox(runner.project_id) as mailbox:
            mailbox._broadcast(command, dict(arguments), [runner.node_name], False)

    @contextmanager
    def _mailbox(self, project_id: int) -> Iterator[Any]:
        """A mailbox that speaks under the project's prefix."""
        options = {
            **self.app.conf.broker_transport_options,
            **TRANSPORT_OPTIONS,
            "global_keyprefix": project_prefix(project_id),
        }
        with self.app.connection_for_write(transport_options=options) as connection:
            mailbox = self.mailbox(connection)
            # The app's own pool would win over the connection, and has no prefix.
            mailbox._producer_pool = None
            yield mailbox


@contextmanager
def _excused(project_id: int) -> Iterator[None]:
    """Only a broker that is away is everybody's trouble."""
    try:
        yield
    except (OperationalError, redis.ConnectionError):
        raise
    except Exception as error:
        # Whatever kombu makes of keys that runners of this project may write.
        logger.warning("project %d cannot be asked or answered: %r", project_id, error)


def _publish(
    mailbox: Any,
    project_id: int,
    message: Mapping[str, Any],
    names: list[str] | None,
    ticket: str | None = None,
) -> None:
    arguments = dict(message["arguments"])
    if isinstance(arguments.get("queue"), str):
        # Flower knows a queue by its key (`runners/replies.py`), the worker by its name.
        arguments["queue"] = arguments["queue"].removeprefix(project_prefix(project_id))
    mailbox._publish(
        message["command"],
        arguments,
        destination=names,
        reply_ticket=ticket,
        timeout=message["timeout"] if ticket else None,
        pattern=message["pattern"],
        matcher=message["matcher"],
    )


def _forget_list(mailbox: Any, project_id: int) -> None:
    with _excused(project_id):
        mailbox.connection.default_channel.after_reply_message_received(mailbox.reply_queue.name)


def _collect(
    asked: Sequence[Asked], timeout: float, limit: int | None, callback: Any
) -> list[Reply]:
    """What comes within `timeout` seconds; less, if everybody or `limit` nodes have answered."""
    deadline = time.monotonic() + timeout
    found: list[Reply] = []
    while limit is None or len(found) < limit:
        waiting = {one.list_key: one for one in asked if not one.is_done}
        left = deadline - time.monotonic()
        if not waiting or left <= 0:
            break
        popped = _pop(list(waiting), min(left, SLICE_SECONDS))
        reply = waiting[popped[0]].hear(popped[1]) if popped else None
        if reply is not None:
            found.append(reply)
            if callback is not None:
                callback({reply.node: reply.answer})
    return found


def _pop(keys: list[bytes], seconds: float) -> tuple[bytes, bytes] | None:
    """Raises OperationalError, as kombu does, while the broker is away."""
    try:
        found = administrator().brpop(keys, timeout=max(seconds, 0.01))
    except redis.RedisError as error:
        raise OperationalError(str(error)) from error
    return cast("tuple[bytes, bytes] | None", found)


def _by_project(destination: Sequence[str] | None) -> dict[int, frozenset[str]]:
    """Node names by project: those of `destination`, or all that were heard of."""
    # Flower asks from threads of its own, in which no request begins or ends.
    close_old_connections()
    runners = Runner.objects.present().exclude(last_heartbeat_at=None)
    if destination is not None:
        matches = [_NODE.match(name) for name in destination]
        runners = runners.filter(pk__in=[int(match[1]) for match in matches if match])
    found: dict[int, set[str]] = {}
    for runner in runners:
        found.setdefault(runner.project_id, set()).add(runner.node_name)
    return {project_id: frozenset(nodes) for project_id, nodes in found.items()}
