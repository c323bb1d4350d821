"""How a controller ends when what it works with is away."""

from __future__ import annotations

import logging
import threading
from datetime import datetime, timedelta

import pytest
from django.db import OperationalError
from django.utils import timezone

from forge.controller import run
from forge.controller.lead import Standstill
from forge.controller.listening import Moment
from forge.controller.run import Controller
from tasks.models import Leadership
from tests.deployment.client import wait_for


@pytest.mark.django_db(transaction=True)
def test_a_controller_whose_database_is_away_ends_in_good_order(
    real: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    # However busy the machine is, it still leads when it ends.
    monkeypatch.setattr(run, "TERM", timedelta(minutes=5))
    controller, statuses = Controller(), list[int]()
    thread = threading.Thread(target=lambda: statuses.append(controller.run()))
    thread.start()
    wait_for(lambda: "this controller leads" in caplog.text, "it leads")

    def is_away(*given: object, **more: object) -> None:
        raise OperationalError("the server closed the connection")

    monkeypatch.setattr(Leadership, "release", is_away)
    controller.close()
    thread.join(60)
    assert statuses == [0]
    assert "the lead cannot be given up, it ends by itself: the server closed" in caplog.text
    assert "Traceback" not in caplog.text


class Hanging(threading.Thread):
    """Waits for a broker for longer than anybody waits for it."""

    def __init__(self, clock: list[float]) -> None:
        super().__init__()
        self._clock = clock

    def join(self, timeout: float | None = None) -> None:
        assert timeout is not None
        self._clock[0] += timeout


def test_duties_that_hang_are_waited_for_together(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("forge.controller.run.time.monotonic", lambda: clock[0])
    run._await_end([Hanging(clock) for _ in range(7)])
    assert clock[0] == 100.0 + run.CLOSE_SECONDS


@pytest.mark.django_db(transaction=True)
def test_a_controller_that_died_with_a_fast_clock_is_followed_at_once(
    real: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its term lasts for an hour more, by the clock of its host."""
    caplog.set_level(logging.INFO)
    ahead = timezone.now() + timedelta(hours=1)
    assert Leadership.acquire(run.NAME, holder="fast", now=ahead, until=ahead + run.TERM)
    controller = Controller()
    thread = threading.Thread(target=controller.run)
    thread.start()
    try:
        wait_for(lambda: "this controller leads" in caplog.text, "it leads")
    finally:
        controller.close()
        thread.join(60)


def test_a_term_that_somebody_renews_goes_on_whatever_its_end_is() -> None:
    standstill, now = Standstill(), timezone.now()
    ends = [now + timedelta(hours=1, seconds=second) for second in range(20)]

    def judge(end: datetime, at: int, set_by: timedelta = timedelta()) -> bool:
        moment = Moment(float(at), now + timedelta(seconds=at) + set_by)
        return end <= standstill.judge(end, moment, seconds=4)

    assert not any(judge(end, at) for at, end in enumerate(ends))
    assert [judge(ends[-1], 20 + at) for at in range(4)] == [False, False, False, True]


def test_a_clock_that_is_set_forward_gives_no_other_controller_the_lead() -> None:
    standstill, now = Standstill(), timezone.now()
    hour = timedelta(hours=1)

    def judge(end: datetime, at: int, set_by: timedelta = timedelta()) -> bool:
        moment = Moment(float(at), now + timedelta(seconds=at) + set_by)
        return end <= standstill.judge(end, moment, seconds=4)

    end = now + timedelta(seconds=4)
    assert not judge(end, 0)
    assert not judge(end, 1, hour) and not judge(end, 2, hour)
    # Who leads has renewed it by the clock as it is now; and then died.
    end = now + hour + timedelta(seconds=7)
    assert not judge(end, 3, hour) and not judge(end, 6, hour) and judge(end, 7, hour)
