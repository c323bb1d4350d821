"""The broker tunnel against a thief with one runner's token and a WebSocket client."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import redis
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from tests.attacks.scene import Scene
from tests.attacks.thief import Thief
from tests.attacks.wire import command, dial
from tests.deployment.client import wait_for

pytestmark = pytest.mark.usefixtures("innocent")


@pytest.fixture
def tunnel(thief: Thief) -> Iterator[ClientConnection]:
    with dial(thief.url, thief.runner.token) as connection:
        yield connection


@pytest.fixture
def prefix(thief: Thief) -> str:
    return str(thief.connect()["key_prefix"])


def ask(connection: ClientConnection, *arguments: str | bytes) -> bytes:
    connection.send(command(*arguments))
    answer = connection.recv(timeout=30)
    assert isinstance(answer, bytes)
    return answer


def assert_works(thief: Thief) -> None:
    """A tunnel can be opened and answers: the server has not suffered."""
    with dial(thief.url, thief.runner.token) as connection:
        assert ask(connection, "PING") == b"+PONG\r\n"


@pytest.mark.parametrize(
    "token", [None, "", "fgr_" + "x" * 43, "fgu_" + "x" * 43, "fgr_\u00fc", "fgr_" + "x" * 5000]
)
def test_without_a_runners_token_no_tunnel_opens(token: str | None, forge: Scene) -> None:
    with pytest.raises(InvalidStatus) as refused, dial(forge.web_url, token):
        pass
    assert refused.value.response.status_code == 401
    assert json.loads(refused.value.response.body or b"")["code"] == "unauthorized"


def test_other_addresses_take_no_websocket(forge: Scene, thief: Thief) -> None:
    for path in ("/", "/runner/v1/connect", "/admin/", "/tasks/1/stream"):
        with pytest.raises(InvalidStatus), dial(forge.web_url + path, thief.runner.token):
            pass


def test_the_tunnel_is_signed_in_as_the_runner_and_the_account_decides(
    tunnel: ClientConnection, forge: Scene, prefix: str
) -> None:
    assert ask(tunnel, "LLEN", f"{prefix}tasks").startswith(b":")
    foreign = f"forge:project:{forge.seeded['project_id']}:tasks"
    assert ask(tunnel, "LLEN", foreign).startswith(b"-NOPERM")
    assert ask(tunnel, "PUBLISH", f"{prefix}/0.celery.pidbox", "x").startswith(b"-NOPERM")


@pytest.mark.parametrize(
    "sent",
    [
        command("AUTH", "default", "guess"),
        command("AUTH", "guess"),
        command("HELLO", "3", "AUTH", "default", "guess"),
        command("RESET"),
        command("MONITOR"),
        command("EVAL", "return 1", "0"),
        command("CLIENT", "TRACKING", "on"),
        b"AUTH default guess\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"*1\r\n$999999999\r\n",
        bytes(range(256)) * 20,
        "text instead of bytes",
    ],
    ids=lambda sent: repr(sent[:24]),
)
def test_what_no_worker_sends_closes_the_tunnel_and_is_logged_by_name(
    sent: bytes | str, tunnel: ClientConnection, thief: Thief, forge: Scene
) -> None:
    if isinstance(sent, str):
        # Text frames carry nothing; what follows decides.
        tunnel.send(sent)
        sent = command("FLUSHALL")
    tunnel.send(sent)
    assert _code_of_the_end(tunnel) == 1008
    forge.await_refusal(thief, "tunnel")
    assert_works(thief)


def _code_of_the_end(tunnel: ClientConnection) -> int | None:
    """Read until the other side closes; nothing that was granted may come before."""
    try:
        while True:
            assert b"OK" not in tunnel.recv(timeout=30)  # type: ignore[operator]
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else None


def test_a_runner_cannot_hold_any_number_of_tunnels(thief: Thief) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(16):
            stack.enter_context(dial(thief.url, thief.runner.token))
        with pytest.raises(InvalidStatus) as refused:
            dial(thief.url, thief.runner.token)
        assert refused.value.response.status_code == 429
    wait_for(lambda: _opens(thief), "a tunnel opens again")


def _opens(thief: Thief) -> bool:
    try:
        assert_works(thief)
    except InvalidStatus:
        return False
    return True


def test_a_flood_reaches_the_broker_slowly(thief: Thief, forge: Scene, prefix: str) -> None:
    """As much as it can for some seconds; the broker takes the burst and the rate, no more."""
    key, value = f"{prefix}x.reply.celery.pidbox", b"x" * 100_000
    rate = 1024 * 1024
    began = time.monotonic()
    with _emptied(forge.broker_url, key) as taken, dial(thief.url, thief.runner.token) as tunnel:
        _send_for(tunnel, 4.0, lambda: command("LPUSH", key, value))
        took = time.monotonic() - began
        arrived = len(value) * sum(taken)
    # Some of it does: a frame that is too large would close the tunnel, and show nothing.
    assert 10 * len(value) <= arrived <= 4 * rate + took * rate + 400_000
    assert_works(thief)


def test_coming_back_refills_no_allowance(thief: Thief, forge: Scene, prefix: str) -> None:
    """Each time a whole burst, then a new tunnel: all of them together get one."""
    key, value = f"{prefix}x.reply.celery.pidbox", b"x" * 100_000
    rate = 1024 * 1024
    began, arrived = time.monotonic(), 0
    for _ in range(3):
        with dial(thief.url, thief.runner.token) as connection:
            for _ in range(40):
                assert ask(connection, "LPUSH", key, value).startswith(b":")
                arrived += len(value)
        wait_for(lambda: _tunnels(forge, thief) == 0, "the last tunnel is closed")
        forge.administrator.delete(key)
    took = time.monotonic() - began
    assert arrived <= 4 * rate + took * rate + 400_000
    assert_works(thief)


@contextlib.contextmanager
def _emptied(broker_url: str, key: str) -> Iterator[list[int]]:
    """Keeps the list short, so that nobody is cut off for its size; how many were taken each time.

    What the tunnel has read arrives long after the sender has closed it.
    """
    taken: list[int] = []
    is_over = threading.Event()

    def empty() -> None:
        with redis.Redis.from_url(broker_url) as administrator:
            while not is_over.wait(0.05):
                taken.append(len(administrator.rpop(key, 1000) or ()))  # type: ignore[arg-type]
            administrator.delete(key)

    thread = threading.Thread(target=empty)
    thread.start()
    try:
        yield taken
    finally:
        is_over.set()
        thread.join()


def _tunnels(forge: Scene, thief: Thief) -> int:
    """How many connections of the runner's account the broker has."""
    clients = forge.administrator.client_list()  # type: ignore[no-untyped-call]
    return sum(client["user"] == thief.account for client in clients)


def _send_for(connection: ClientConnection, seconds: float, make: Callable[[], bytes]) -> None:
    """Send until the time is over, or the peer's window is full and stays so."""
    connection.socket.settimeout(seconds)
    deadline = time.monotonic() + seconds
    with contextlib.suppress(TimeoutError, ConnectionClosed):
        while time.monotonic() < deadline:
            connection.send(make())


def test_a_reader_that_never_reads_costs_the_server_little_memory(
    thief: Thief, forge: Scene, prefix: str
) -> None:
    """Large answers asked for again and again, and pings, and nothing read."""
    psutil = pytest.importorskip("psutil")
    web = psutil.Process(forge.web.process.pid)
    members = [os.urandom(40) for _ in range(2000)]
    binding = f"{prefix}_kombu.binding.flood"
    with dial(thief.url, thief.runner.token) as connection:
        ask(connection, "SADD", binding, *members)
        before = web.memory_info().rss
        asking = command("SMEMBERS", binding) * 50
        _send_for(connection, 3.0, lambda: asking)
        grown = web.memory_info().rss - before
        ask_again = dial(thief.url, thief.runner.token)
        with ask_again:
            ask(ask_again, "SREM", binding, *members)
    print(f"web process grew by {grown / 1e6:.1f} MB while nothing was read")
    assert grown < 30e6
    assert_works(thief)
