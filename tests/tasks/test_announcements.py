"""News of tasks goes out at once, and nobody who makes some waits for the broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from django.utils import timezone

from runners import broker
from runners.models import Runner
from runners.worker.protocol import Heartbeat, Piece, Report, TaskRef
from tasks.heartbeat import take_heartbeat
from tasks.intake import take_report
from tasks.lifecycle import TaskState
from tasks.live import announce
from tasks.models import Task, TaskTemplate
from tasks.operations import run_template
from tasks.publish import publish
from tasks.reaping import mark_silent
from tests.cast import Cast
from tests.deployment.client import wait_for
from tests.deployment.silence import Wire
from tests.runners.conftest import broker_url, forget_clients, real

__all__ = ["broker_url", "real"]

SESSION = "s" * 16


class Listener:
    """Who watches: which tasks were announced, at the broker itself."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url)
        self._channel = self._client.pubsub(ignore_subscribe_messages=True)
        self._channel.subscribe(broker.LIVE_CHANNEL)
        wait_for(lambda: self._channel.subscribed, "the subscription")
        self.heard: set[int] = set()

    def listen(self) -> set[int]:
        while message := self._channel.get_message(timeout=0.05):
            self.heard.add(int(message["data"]))
        return self.heard

    def close(self) -> None:
        self._channel.close()
        self._client.close()


@pytest.fixture
def listener(real: str) -> Iterator[Listener]:
    found = Listener(real)
    yield found
    found.close()


@pytest.fixture
def wire(real: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """What Forge speaks to the broker through; nobody gives up within the time of a test."""
    monkeypatch.setattr(broker, "ANSWER_TIMEOUT", 60.0)
    monkeypatch.setattr(broker, "CONNECT_TIMEOUT", 60.0)
    port = urlsplit(real).port
    assert port is not None
    found = Wire(port)
    settings.REDIS_URL = real.replace(f":{port}", f":{found.port}")
    forget_clients()
    broker.administrator().ping()
    yield found
    found.mend()
    found.close()


@pytest.fixture
def running(cast: Cast, template: TaskTemplate, runner: Runner) -> list[Task]:
    """Tasks that `runner` runs."""
    Runner.objects.filter(pk=runner.pk).update(session=SESSION, last_heartbeat_at=timezone.now())
    runner.refresh_from_db()
    template.allow_parallel = True
    template.save()
    now = timezone.now()
    tasks = [run_template(template=template, by=cast.operator, now=now) for _ in range(3)]
    for task in tasks:
        assert task.claim(runner=runner, attempt=1, nonce="n" * 22, now=now)
        assert task.start(runner=runner, attempt=1, now=now)
    return tasks


def send_logs(runner: Runner, tasks: list[Task]) -> None:
    pieces = tuple(Piece(task.pk, 1, 0, b"a line\n") for task in tasks)
    reply = take_report(runner=runner, report=Report((), pieces, ()), now=timezone.now())
    assert [receipt.log_bytes for receipt in reply.receipts] == [7, 7, 7]


def come_back(runner: Runner, tasks: list[Task]) -> None:
    for task in tasks:
        assert task.mark_unreachable(now=timezone.now())
    held = tuple(TaskRef(task.pk, 1) for task in tasks)
    reply = take_heartbeat(runner=runner, message=Heartbeat(SESSION, held), now=timezone.now())
    assert reply.renewed == held


def fall_silent(runner: Runner, tasks: list[Task]) -> None:
    later = timezone.now() + timedelta(hours=1)
    assert mark_silent(now=later, after=timedelta(seconds=30)) == len(tasks)


@pytest.mark.django_db
@pytest.mark.parametrize("make_news", [send_logs, come_back, fall_silent])
def test_what_happens_is_committed_before_a_silent_broker_has_said_a_word(
    make_news: Callable[[Runner, list[Task]], None],
    running: list[Task],
    runner: Runner,
    listener: Listener,
    wire: Wire,
) -> None:
    wire.cut()
    make_news(runner, running)
    assert listener.listen() == set()
    wire.mend()
    wait_for(lambda: listener.listen() == {task.pk for task in running}, "the announcements")


def test_news_are_told_again_after_the_broker_was_away(
    real: str, listener: Listener, settings: Any
) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1"
    forget_clients()
    announce(1)
    settings.REDIS_URL = real
    forget_clients()

    def is_heard() -> bool:
        announce(2)
        return 2 in listener.listen()

    wait_for(is_heard, "an announcement")


@pytest.mark.django_db
def test_a_broker_that_holds_up_every_publisher_keeps_no_task_from_being_queued(
    task: Task,
) -> None:
    """The task is committed: whoever asked for it must not be told to ask again."""
    pool = broker.celery_app().pool
    with ExitStack() as held:
        for _ in range(pool.limit or 0):
            held.enter_context(pool.acquire(block=True, timeout=2))
        publish(task.queue, [(task.pk, task.attempt)])
    task.refresh_from_db()
    assert task.state == TaskState.QUEUED
