"""Inspect and control over all projects, for Flower and for Forge's own orders.

Each project's workers listen under their own key prefix, so one broadcast becomes one a project.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from celery.app.control import Control
from kombu import Connection

from runners.broker import TRANSPORT_OPTIONS, project_prefix
from runners.models import Runner

_NODE = re.compile(r"\Arunner-(\d{1,18})@")


class FleetControl(Control):  # type: ignore[misc]
    """Celery's remote control client, for a fleet with a key prefix a project."""

    mailbox: Any

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
        """As Celery's; `connection` and `channel` are not used, they have no prefix."""
        replies: list[Any] = []
        arguments = dict(arguments or {}, **extra)
        for project_id, nodes in _by_project(destination).items():
            with self._mailbox(project_id) as mailbox:
                answer = mailbox._broadcast(
                    command,
                    arguments,
                    nodes if destination is not None else None,
                    reply,
                    timeout,
                    limit,
                    callback,
                    pattern=pattern,
                    matcher=matcher,
                )
            replies += answer or []
        return replies if reply else None

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


def _by_project(destination: Sequence[str] | None) -> dict[int, list[str]]:
    """Node names by project: those of `destination`, or all that were heard of."""
    runners = Runner.objects.present().exclude(last_heartbeat_at=None)
    if destination is not None:
        matches = [_NODE.match(name) for name in destination]
        runners = runners.filter(pk__in=[int(match[1]) for match in matches if match])
    found: dict[int, list[str]] = {}
    for runner in runners:
        found.setdefault(runner.project_id, []).append(runner.node_name)
    return found
