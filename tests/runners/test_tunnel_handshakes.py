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
from runners.broker import administrator, project_prefix
from runners.operations import NewRunner
from runners.worker.protocol import LISTEN_ANEW
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


class Listener(Peer):
    """Waits for a message of its own queue, for ten minutes, and is told of others meanwhile."""

    def __init__(self, dialling: NewRunner) -> None:
        super().__init__(dialling.token)
        runner = dialling.runner
        key = f"{project_prefix(runner.project_id)}{runner.account}".encode()
        self._wait = b"*3\r\n$5\r\nBRPOP\r\n$%d\r\n%s\r\n$3\r\n600\r\n" % (len(key), key)
        self.steps: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self.steps.put_nowait({"type": "websocket.connect"})
        self.heard: list[bytes] = []

    async def receive(self) -> MutableMapping[str, Any]:
        return await self.steps.get()

    async def send(self, message: MutableMapping[str, Any]) -> None:
        await super().send(message)
        self.heard += [message["bytes"]] if message.get("bytes") else []

    async def listen(self, times: int) -> None:
        serving = asyncio.create_task(tunnel.serve(self.scope, self.receive, self.send))
        for number in range(1, times + 1):
            self.steps.put_nowait({"type": "websocket.receive", "bytes": self._wait})
            await until(lambda: len(blocked()) == 1)
            self.steps.put_nowait({"type": "websocket.receive", "text": LISTEN_ANEW})
            await until(lambda number=number: len(self.heard) == number)
        self.steps.put_nowait({"type": "websocket.disconnect"})
        await serving


def blocked() -> list[dict[str, str]]:
    return [one for one in administrator().client_list() if "b" in one["flags"]]


def test_a_worker_with_other_queues_ends_its_wait_for_those_before(dialling: NewRunner) -> None:
    """With the answer of a wait that was over, by which nothing is lost."""
    listener = Listener(dialling)
    asyncio.run(listener.listen(2))
    assert listener.heard == [b"*-1\r\n"] * 2
    assert [one["type"] for one in listener.sent if "bytes" not in one] == ["websocket.accept"]


async def number_in(greeting: bytes) -> int | None:
    reader = asyncio.StreamReader()
    reader.feed_data(greeting)
    reader.feed_eof()
    return await tunnel._number_in(await reader.readline(), reader)


def test_the_number_of_a_connection_is_found_between_whatever_else_a_broker_says() -> None:
    greeting = b"*6\r\n$6\r\nserver\r\n$-1\r\n$2\r\nid\r\n:42\r\n$7\r\nmodules\r\n*1\r\n"
    greeting += b"*2\r\n$4\r\nname\r\n$2\r\nid\r\n"
    assert asyncio.run(number_in(greeting)) == 42
    assert asyncio.run(number_in(b"-WRONGPASS invalid\r\n")) is None


@pytest.mark.parametrize(
    "greeting",
    [b"*2\r\n$2\r\nid\r\n", b"*999999\r\n" + b":1\r\n" * 999, b"*x\r\n", b"*1\r\n$9\r\nx"],
)
def test_what_is_no_greeting_is_a_broker_that_is_away(greeting: bytes) -> None:
    with pytest.raises((OSError, EOFError, ValueError)):
        asyncio.run(number_in(greeting))
