"""A broker that no longer answers: who waits for it can be freed; events and answers wait once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import celery
import kombu
import pytest
import redis
from kombu.transport import redis as transport

from runners.worker.channel import LOST, RunnerChannel, cut
from runners.worker.events import RunnerDispatcher
from runners.worker.orders import use_mailbox
from tests.broker import binaries, running
from tests.deployment.client import wait_for

# Longer than any test waits: who no longer waits was freed.
PATIENCE = 600


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    with running(binaries()["valkey"], tmp_path) as url:
        yield url


@pytest.fixture
def administrator(broker: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(broker) as client:
        yield client


@pytest.fixture
def pid(administrator: redis.Redis) -> Iterator[int]:
    found: Any = administrator.info("server")
    pid = int(found["process_id"])
    yield pid
    os.kill(pid, signal.SIGCONT)


def connect(broker: str, monkeypatch: pytest.MonkeyPatch, patience: float) -> kombu.Connection:
    """As a worker is connected to a broker at an address of its own."""
    monkeypatch.setattr(transport.Transport, "Channel", RunnerChannel)
    options = {"ack_emulation": False, "priority_steps": [0], "socket_timeout": patience}
    return kombu.Connection(broker, transport_options=options)


def reads(frame: Any) -> bool:
    while frame is not None:
        if "read_from_socket" in frame.f_code.co_name:
            return True
        frame = frame.f_back
    return False


def test_who_waits_for_an_answer_is_freed_from_another_thread(
    broker: str, pid: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(broker, monkeypatch, PATIENCE) as connection, ThreadPoolExecutor() as threads:
        channel: Any = connection.channel()
        client = channel.client
        assert client.ping()
        os.kill(pid, signal.SIGSTOP)
        waiting: Future[Any] = threads.submit(client.llen, "tasks")
        wait_for(lambda: any(map(reads, sys._current_frames().values())), "it waits")
        cut(connection)
        with pytest.raises(redis.ConnectionError):
            waiting.result(60)
        with pytest.raises(redis.ConnectionError, match=LOST):
            threads.submit(client.ping).result(60)


def test_a_connection_that_was_never_made_can_be_cut(broker: str) -> None:
    cut(None)
    cut(kombu.Connection(broker))


def connections(administrator: redis.Redis) -> int:
    """How many the broker has taken since its start."""
    found: Any = administrator.info("stats")
    return int(found["total_connections_received"])


def test_events_are_kept_and_only_the_first_waits_for_an_answer(
    broker: str, administrator: redis.Redis, pid: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = celery.Celery("test", broker=broker)
    with connect(broker, monkeypatch, 8) as connection:
        dispatcher = RunnerDispatcher(connection, hostname="runner-1@here", app=app)
        dispatcher.send("task-started", uuid="1.1")
        before = connections(administrator)
        os.kill(pid, signal.SIGSTOP)
        for number in range(2, 6):
            dispatcher.send("task-started", uuid=f"{number}.1")
        with pytest.raises(redis.ConnectionError, match=LOST):
            dispatcher.send("worker-heartbeat", retry=True)
        os.kill(pid, signal.SIGCONT)
        # Each that waits for an answer asks for it over a connection of its own.
        assert connections(administrator) == before
        kept = [event["uuid"] for event, _ in dispatcher._outbound_buffer]
        assert kept == ["2.1", "3.1", "4.1", "5.1"]


def test_an_answer_to_a_question_is_sent_once(
    broker: str,
    administrator: redis.Redis,
    pid: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    use_mailbox()
    app = celery.Celery("test", broker=broker)
    with connect(broker, monkeypatch, 8) as connection:
        channel: Any = connection.channel()
        control: Any = app.control
        node = control.mailbox.Node("runner-1@here", channel=channel)
        asked = {"exchange": "reply.celery.pidbox", "routing_key": "asker", "ticket": "1"}
        channel.queue_declare("asker.reply.celery.pidbox")
        channel.exchange_declare("reply.celery.pidbox", type="direct")
        channel.queue_bind("asker.reply.celery.pidbox", "reply.celery.pidbox", "asker")
        node.reply({"pong": True}, **asked)
        assert administrator.llen("asker.reply.celery.pidbox") == 1
        os.kill(pid, signal.SIGSTOP)
        node.reply({"pong": True}, **asked)
        assert "The answer to a control command could not be sent" in caplog.text
