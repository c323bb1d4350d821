"""What a runner publishes as events, and the relay that reads it for all projects."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from forge.controller.events import EventRelay
from runners.broker import administrator, project_prefix
from runners.events import read_events
from runners.models import Runner
from tests.deployment.client import wait_for

NOW = 1_800_000_000.0


def message(body: Any) -> bytes:
    """As kombu writes it to Redis."""
    packed = base64.b64encode(json.dumps(body).encode()).decode()
    return json.dumps({"body": packed, "properties": {"body_encoding": "base64"}}).encode()


@pytest.mark.parametrize(
    "given",
    [10**400, -(10**400), 10**308, float("inf"), float("nan"), 1e308, NOW + 61, "late", None, True],
    ids=lambda given: str(given)[:8],
)
def test_a_time_that_cannot_be_is_replaced_by_when_the_event_came(given: object) -> None:
    event = {"type": "worker-heartbeat", "hostname": "runner-1@a", "timestamp": given}
    (read,) = read_events(message(event), now=NOW)
    assert read.fields["timestamp"] == NOW


def test_a_time_near_forges_is_kept() -> None:
    event = {"type": "worker-heartbeat", "hostname": "runner-1@a", "timestamp": NOW - 3}
    assert read_events(message(event), now=NOW)[0].fields["timestamp"] == NOW - 3


class Stumbling(EventRelay):
    """Meets an error that nobody thought of with the first messages that it hears."""

    has_stumbled = False

    def _relay(self, messages: list[dict[str, Any]]) -> bool:
        if messages and not self.has_stumbled:
            self.has_stumbled = True
            raise OverflowError("a message that nobody thought of")
        return super()._relay(messages)


@contextmanager
def running(make: Callable[[threading.Event, threading.Event], EventRelay]) -> Iterator[None]:
    is_leading, is_closing = threading.Event(), threading.Event()
    is_leading.set()
    relay = make(is_leading, is_closing)
    relay.start()
    try:
        yield
    finally:
        is_closing.set()
        relay.join(60)


@pytest.mark.django_db(transaction=True)
def test_the_relay_goes_on_after_an_error_that_nobody_thought_of(
    real: str, runner: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    event = {"type": "worker-heartbeat", "hostname": runner.node_name, "timestamp": NOW}
    channel = f"{project_prefix(runner.project_id)}/0.celeryev/worker.heartbeat"
    heard = administrator().pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
    with heard as flower, running(Stumbling):
        flower.subscribe("/0.celeryev/worker.heartbeat")

        def arrives() -> bool:
            administrator().publish(channel, message(event))
            return flower.get_message(timeout=0.2) is not None

        wait_for(arrives, "an event is relayed")
    assert "a message that nobody thought of" in caplog.text
