"""A web process says so whose host's clock is another one than the leading controller's."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from runners.models import Runner
from runners.operations import create_runner
from runners.worker.protocol import Heartbeat
from tasks import lead_clock
from tasks.lead_clock import TERM, LeadClock
from tasks.models import Leadership
from tests.cast import Cast

pytestmark = pytest.mark.django_db

DIFFERS = "The clock of this host is about"


class Controller:
    """It leads, on a host whose clock is `ahead` of this one's."""

    def __init__(self, ahead: timedelta = timedelta()) -> None:
        self.ahead = ahead

    def renew(self) -> None:
        now = timezone.now() + self.ahead
        assert Leadership.acquire("controller", holder="it", now=now, until=now + TERM)

    def resign(self) -> None:
        Leadership.release("controller", holder="it", now=timezone.now() + self.ahead)


class Worker:
    """Its heartbeats have the web process look."""

    def __init__(self, cast: Cast) -> None:
        made = create_runner(
            project=cast.project,
            name="web-1",
            tags=[],
            concurrency=1,
            takes_untagged=True,
            by=cast.owner,
            now=timezone.now(),
        )
        Runner.objects.filter(pk=made.runner.pk).update(session="s" * 16)
        self._headers = {"Authorization": f"Bearer {made.token}"}

    def beat(self) -> None:
        body = Heartbeat("s" * 16, ()).as_bytes()
        address, kind = "/runner/v1/heartbeat", "application/json"
        answer = Client().post(address, body, content_type=kind, headers=self._headers)
        assert answer.status_code == 200, answer.text


@pytest.fixture
def worker(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """Each of its heartbeats has a web process look that was started just now."""
    monkeypatch.setattr(lead_clock, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr("tasks.heartbeat.lead_clock", LeadClock())
    return Worker(cast)


@pytest.mark.parametrize(("hours", "how"), [(1, "behind"), (-1, "ahead of")])
def test_a_difference_is_said_once_a_minute(
    worker: Worker, hours: int, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    controller = Controller(timedelta(hours=hours))
    for _ in range(4):
        controller.renew()
        worker.beat()
    # To the moment in which both looked; a busy machine takes a while from one to the other.
    said = re.findall(
        rf"{DIFFERS} (\d+) s {how} that of the leading controller's host", caplog.text
    )
    assert len(said) == 1 and abs(int(said[0]) - 3600) < 120


def test_a_controller_that_keeps_gives_up_and_takes_the_lead_is_no_difference(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    worker.beat()
    controller = Controller()
    for _ in range(3):
        controller.renew()
        worker.beat()
    controller.resign()
    worker.beat()
    controller.renew()
    worker.beat()
    assert "The clock of this host" not in caplog.text


@pytest.mark.parametrize("hours", [1, -1])
def test_of_a_controller_that_has_died_nothing_is_known(
    worker: Worker, hours: int, caplog: pytest.LogCaptureFixture
) -> None:
    Controller(timedelta(hours=hours)).renew()
    for _ in range(3):
        worker.beat()
    assert "The clock of this host" not in caplog.text
