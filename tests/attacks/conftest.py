"""A deployment, a victim's project in it, and a thief who holds one runner's token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from tests.deployment.client import Runner
from tests.deployment.deployment import Deployment


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("forge")) as deployment:
        yield deployment


@dataclass
class Thief:
    """Speaks HTTP with a stolen token; knows the protocol, follows no rule."""

    url: str
    runner: Runner
    session: str = "thief-session-0123456789"

    def send(self, path: str, body: Any) -> requests.Response:
        options: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {"json": body}
        headers = {"Authorization": f"Bearer {self.runner.token}"}
        return requests.post(f"{self.url}/runner/v1/{path}", headers=headers, timeout=30, **options)

    def connect(self) -> dict[str, Any]:
        answer = self.send(
            "connect",
            {
                "protocol": 1,
                "version": "0.1.0",
                "session": self.session,
                "instance": "thief-instance-0123456789",
                "host_name": "thief",
                "system": "Debian",
            },
        )
        assert answer.ok, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def claim(self, task: int, attempt: int = 1, nonce: str = "n" * 16) -> requests.Response:
        return self.send("claim", {"task": task, "attempt": attempt, "nonce": nonce})

    def report(self, **parts: Any) -> requests.Response:
        empty: dict[str, Any] = {"started": [], "pieces": [], "results": []}
        return self.send("report", {"session": self.session, **empty, **parts})

    def heartbeat(self, held: list[dict[str, int]]) -> requests.Response:
        return self.send("heartbeat", {"session": self.session, "held": held})


@pytest.fixture(scope="module")
def thief(forge: Deployment) -> Thief:
    """Holds the token of a runner of a project of its own."""
    project = forge.api.project("Thief's")
    found = Thief(forge.place["url"], forge.api.runner(project, "stolen-1"))
    found.connect()
    return found


@pytest.fixture
def sibling(forge: Deployment) -> Iterator[Thief]:
    """Holds the token of another runner of the very project whose tasks it wants to spoil."""
    runner = forge.api.runner(forge.place["project_id"], "sibling-1")
    found = Thief(forge.place["url"], runner)
    found.connect()
    yield found
    forge.api.remove_runner(runner.id)
