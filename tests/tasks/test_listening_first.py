"""No runner is blamed for what could not be heard, and no lease ends by a clock that was set."""

from __future__ import annotations

import logging
import threading
from datetime import datetime, timedelta

import pytest
from django.conf import settings
from django.utils import timezone

from forge.controller.reaper import ReaperLoop
from runners.models import Runner
from tasks.lifecycle import TaskState
from tasks.models import Task, TaskTemplate
from tasks.policies import CLOCK_DIFFERENCE
from tests.cast import Cast
from tests.tasks.test_losing_runners import beat, retried, task_with

SILENCE = round(settings.FORGE_OFFLINE_SECONDS)
LEASE = round((timedelta(seconds=settings.FORGE_LEASE_SECONDS) + CLOCK_DIFFERENCE).total_seconds())
BEAT = round(settings.FORGE_HEARTBEAT_SECONDS)
AN_HOUR = timedelta(hours=1)


class Controller:
    """One that looks once a second, as the host's clock goes, which can be set."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.start()

    def start(self) -> None:
        self._loop = ReaperLoop(threading.Event(), threading.Event())
        self._seconds = 0.0

    def look(self, seconds: int, heard: Runner | None = None, *tasks: Task) -> None:
        """Let so many seconds pass; `heard` beats as often as it should, and has the tasks."""
        for second in range(seconds):
            self.now += timedelta(seconds=1)
            self._seconds += 1
            if heard is not None and second % BEAT == BEAT - 1:
                beat(heard, *tasks, now=self.now)
            self._loop.turn_at(monotonic=self._seconds, now=self.now)


def attempt_and_state(task: Task) -> tuple[int, str]:
    task.refresh_from_db()
    return task.attempt, task.state


@pytest.mark.django_db
@pytest.mark.parametrize("set_by", [AN_HOUR, -AN_HOUR], ids=["forward", "back"])
def test_a_clock_that_is_set_ends_no_lease_and_silences_nobody(
    template: TaskTemplate,
    runner: Runner,
    cast: Cast,
    set_by: timedelta,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    task = retried(template, runner, cast)
    controller = Controller(timezone.now())
    controller.look(LEASE + SILENCE, runner, task)
    assert attempt_and_state(task) == (1, TaskState.RUNNING)
    controller.now += set_by
    controller.look(LEASE + SILENCE, runner, task)
    assert attempt_and_state(task) == (1, TaskState.RUNNING)
    assert caplog.text.count("The clock of this host was set") == 1


@pytest.mark.django_db
def test_a_lease_that_goes_on_while_the_clock_is_set_is_waited_for(
    template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    """Its runner falls silent in that moment, and may let the program run for a whole lease."""
    task = retried(template, runner, cast)
    controller = Controller(timezone.now())
    controller.look(LEASE + SILENCE, runner, task)
    controller.now += AN_HOUR
    controller.look(LEASE)
    assert attempt_and_state(task) == (1, TaskState.UNREACHABLE)
    controller.look(1)
    assert attempt_and_state(task) == (2, TaskState.QUEUED)


@pytest.mark.django_db
def test_a_wait_that_ended_while_no_controller_ran_ends_only_if_nobody_is_heard(
    template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    task = task_with(template, runner, cast, lost_runner_wait_seconds=60)
    controller = Controller(timezone.now())
    controller.look(2 * SILENCE + 1)
    assert attempt_and_state(task) == (1, TaskState.UNREACHABLE)
    controller.now += timedelta(minutes=10)
    controller.start()
    controller.look(BEAT, runner, task)
    assert attempt_and_state(task) == (1, TaskState.RUNNING)
    controller.look(2 * SILENCE + 1)
    controller.now += timedelta(minutes=10)
    controller.start()
    controller.look(SILENCE)
    assert attempt_and_state(task) == (1, TaskState.UNREACHABLE)
    controller.look(1)
    assert attempt_and_state(task) == (1, TaskState.LOST)
