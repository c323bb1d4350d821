"""The end of a worker's BRPOP, against a real broker: at once, and no hint is lost in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import kombu
import pytest
import redis
from celery.worker import state

from runners.worker.consumer import hang_up, make_queue
from tests.broker import binaries, required, running
from tests.deployment.client import wait_for

# Longer than any test waits: a BRPOP that ends was ended.
BRPOP_SECONDS = 600


@pytest.fixture(scope="module", params=["valkey", "redis"])
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    binary = binaries().get(request.param)
    if binary is None:
        if request.param in required():
            pytest.fail(f"{request.param} is required and not installed")
        pytest.skip(f"no {request.param} here")
    with running(binary, tmp_path_factory.mktemp("broker")) as url:
        yield url


class Listening:
    """A worker's connection that waits for hints, as kombu's transport for Redis makes it."""

    def __init__(self, url: str) -> None:
        options = {"ack_emulation": False, "priority_steps": [0], "polling_interval": BRPOP_SECONDS}
        self.administrator = redis.Redis.from_url(url)
        self.administrator.flushall()
        self.connection = kombu.Connection(url, transport_options=options)
        self.got: list[Any] = []
        self.consumer = kombu.Consumer(
            self.connection.channel(),
            [make_queue("tasks")],
            on_message=lambda message: self.got.append(message.payload),
        )
        self.consumer.consume()
        self.wait()
        wait_for(lambda: self.blocked() == 1, "the BRPOP waits")

    def wait(self) -> None:
        with suppress(TimeoutError):
            self.connection.drain_events(timeout=0.1)

    def blocked(self) -> int:
        """How many clients wait in the broker."""
        clients: Any = self.administrator.info("clients")
        return int(clients["blocked_clients"])

    def send(self, *hints: str) -> None:
        with self.connection.clone() as connection, connection.SimpleQueue("tasks") as queue:
            for hint in hints:
                queue.put(hint)

    def left(self) -> int:
        found: Any = self.administrator.llen("tasks")
        return int(found)

    def hang_up(self) -> None:
        hang_up(SimpleNamespace(task_consumer=self.consumer))


@pytest.fixture
def listening(broker: str) -> Iterator[Listening]:
    found = Listening(broker)
    yield found
    state.should_terminate = None
    found.hang_up()
    found.connection.release()


def test_a_brpop_that_waits_is_ended_and_takes_nothing_more(listening: Listening) -> None:
    listening.hang_up()
    wait_for(lambda: listening.blocked() == 0, "nobody waits in the broker")
    listening.send("later")
    assert listening.left() == 1 and listening.got == []
    listening.connection.release()  # would wait for the BRPOP


def test_a_hint_that_was_popped_at_that_moment_is_carried_out(listening: Listening) -> None:
    listening.send("now", "next")
    wait_for(lambda: listening.left() == 1, "the broker has given the first one away")
    listening.hang_up()
    assert listening.got == ["now"] and listening.left() == 1


def test_a_cold_shutdown_begins_nothing(listening: Listening) -> None:
    listening.send("now")
    wait_for(lambda: listening.left() == 0, "the broker has given it away")
    state.should_terminate = 0  # type: ignore[assignment]
    listening.hang_up()
    assert listening.got == []
    wait_for(lambda: listening.blocked() == 0, "nobody waits in the broker")


def test_a_connection_that_is_gone_is_no_trouble(listening: Listening) -> None:
    listening.administrator.client_kill_filter(_type="normal", skipme=True)
    listening.hang_up()
    listening.hang_up()
    assert listening.got == []
