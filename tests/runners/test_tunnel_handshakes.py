"""Handshakes of the broker tunnel, against a real broker and one that never answers."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from runners import quotas, tunnel
from runners.operations import NewRunner
from tests.cast import Cast
from tests.runners.test_accounts import new_runner

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def dialling(real: str, cast: Cast) -> NewRunner:
    return new_runner(cast, cast.project, "web-1")


@pytest.fixture
def silent_broker(dialling: NewRunner, settings: Any) -> Iterator[None]:
    """It takes connections and says nothing, as a broker that hangs."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        settings.REDIS_URL = f"redis://127.0.0.1:{server.getsockname()[1]}/0"
        yield


@pytest.fixture(autouse=True)
def nobody_was_heard_before() -> Iterator[None]:
    for quota in (quotas.requests, tunnel.sent_bytes, tunnel.large_answers):
        quota.forget()
    yield
    for quota in (quotas.requests, tunnel.sent_bytes, tunnel.large_answers):
        quota.forget()


class Peer:
    """A runner's side of one handshake: leaves at once if it is let in."""

    def __init__(self, token: str) -> None:
        self.scope = {
            "type": "websocket",
            "client": ("127.0.0.1", 1),
            "headers": [(b"authorization", f"Bearer {token}".encode())],
        }
        self.sent: list[MutableMapping[str, Any]] = []
        self._events = iter(("websocket.connect", "websocket.disconnect"))

    async def receive(self) -> MutableMapping[str, Any]:
        return {"type": next(self._events)}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.sent.append(message)

    async def dial(self) -> str:
        """`open`, or the code of the refusal."""
        await tunnel.serve(self.scope, self.receive, self.send)
        if self.sent[0]["type"] == "websocket.accept":
            return "open"
        code: str = json.loads(self.sent[1]["body"])["code"]
        return code


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def test_a_broker_that_hangs_costs_no_descriptor_for_each_handshake(
    silent_broker: None, dialling: NewRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnel, "SIGN_IN_SECONDS", 0.2)

    async def dial_again_and_again() -> None:
        assert await Peer(dialling.token).dial() == "broker_unavailable"
        await asyncio.sleep(0)
        before = open_descriptors()
        for _ in range(3):
            assert await Peer(dialling.token).dial() == "broker_unavailable"
        await until(lambda: open_descriptors() <= before)

    asyncio.run(dial_again_and_again())


def test_handshakes_have_the_quota_of_requests(
    dialling: NewRunner, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.FORGE_RUNNER_REQUESTS_PER_SECOND = 0.01
    peers = [Peer(dialling.token) for _ in range(3)]
    said = [asyncio.run(peer.dial()) for peer in peers]
    assert said == ["open", "too_many_requests", "too_many_requests"]
    assert int(dict(peers[1].sent[0]["headers"])[b"retry-after"]) >= 1
    assert f"refused runner web-1 ({dialling.runner.pk}): too_many_requests" in caplog.text
