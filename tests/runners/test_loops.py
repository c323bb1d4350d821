"""The controller's duties, when they fail again and again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from forge.controller.loop import Loop
from tests.deployment.client import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


class Duty(Loop):
    """Does as it is told, some hundred times a second."""

    name = "duty"
    period = 0.005

    def __init__(self, is_leading: threading.Event, is_closing: threading.Event) -> None:
        super().__init__(is_leading, is_closing)
        self.error: Exception | None = None
        self.turns = 0

    def turn(self) -> None:
        self.turns += 1
        if self.error is not None:
            raise self.error

    def await_turns(self, what: str, error: Exception | None) -> None:
        """Several in which this goes wrong, or nothing."""
        self.error = error
        before = self.turns
        wait_for(lambda: self.turns > before + 3, what)


@contextmanager
def running() -> Iterator[Duty]:
    is_leading, is_closing = threading.Event(), threading.Event()
    is_leading.set()
    duty = Duty(is_leading, is_closing)
    duty.start()
    try:
        yield duty
    finally:
        is_closing.set()
        duty.join(60)


def test_an_error_that_nobody_thought_of_is_told_once_until_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    with running() as duty:
        duty.await_turns("it fails", KeyError("odd"))
        assert caplog.text.count("Traceback") == 1
        duty.await_turns("it fails otherwise", ZeroDivisionError())
        assert caplog.text.count("Traceback") == 2
        duty.await_turns("it works", None)
        duty.await_turns("it fails anew", KeyError("odd"))
    assert caplog.text.count("Traceback") == 3
    assert caplog.text.count("duty: works again") == 1


def test_what_is_away_is_told_without_a_traceback_and_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with running() as duty:
        duty.await_turns("the broker is away", redis.ConnectionError("refused"))
        duty.await_turns("and so it is for another reason", redis.TimeoutError("silent"))
        # It is there again, and its answer is worth a line.
        duty.await_turns("the broker is full", redis.ResponseError("used memory > 'maxmemory'"))
    said = [record.getMessage() for record in caplog.records]
    # What an earlier test has left to threads of its own may speak in between.
    assert [one for one in said if one.startswith("duty: ")] == [
        "duty: refused; trying again every 0.005 s",
        "duty: used memory > 'maxmemory'; trying again every 0.005 s",
    ]
    assert "Traceback" not in caplog.text
