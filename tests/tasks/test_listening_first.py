"""No runner is blamed for what could not be heard, and no lease ends by a clock that was set."""

from __future__ import annotations

import logging
import threading
from datetime import datetime, timedelta

import pytest
from django.conf import settings
from django.utils import timezone

from forge.controller.listening import Moment
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
    """One that looks once a second, as the host's clock goes, which can be set.

    `slowness` is how many seconds pass at each step of a turn; `stands_still` has after how many
    further steps it stands still for an hour, in which others go on.
    """

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.slowness = 0.0
        self.stands_still: int | None = None
        self.start()

    def start(self) -> None:
        is_leading = threading.Event()
        is_leading.set()
        self._loop = ReaperLoop(is_leading, threading.Event(), present=self._present)
        self._seconds = 0.0

    def lead_again(self, other: Controller, seconds: float) -> None:
        """`other` has led meanwhile, for so long."""
        self.now = other.now
        self._seconds += seconds
        self._loop.take_over()

    def _present(self) -> Moment:
        self.let_pass(self.slowness)
        if self.stands_still == 0:
            self.let_pass(AN_HOUR.total_seconds())
        if self.stands_still is not None:
            self.stands_still -= 1
        return Moment(self._seconds, self.now)

    def let_pass(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self._seconds += seconds

    def look(self, seconds: int, heard: Runner | None = None, *tasks: Task) -> None:
        """Let so many seconds pass; `heard` beats as often as it should, and has the tasks."""
        for second in range(seconds):
            self.let_pass(1)
            if heard is not None and second % BEAT == BEAT - 1:
                beat(heard, *tasks, now=self.now)
            self._loop.turn()


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


@pytest.mark.django_db
def test_a_turn_that_takes_long_keeps_no_lease_from_ending(
    template: TaskTemplate, runner: Runner, cast: Cast, caplog: pytest.LogCaptureFixture
) -> None:
    """Each step waits for a broker that does not answer, or for a large database."""
    caplog.set_level(logging.INFO)
    task = retried(template, runner, cast)
    controller = Controller(timezone.now())
    controller.slowness = 6.0
    controller.look(LEASE // 6)
    assert attempt_and_state(task) == (2, TaskState.QUEUED)
    assert "could hear nobody" not in caplog.text
    assert caplog.text.count("leases may end") == 1


@pytest.mark.django_db
def test_a_standstill_in_the_middle_of_a_turn_has_a_whole_lease_waited_for_anew(
    template: TaskTemplate, runner: Runner, cast: Cast, caplog: pytest.LogCaptureFixture
) -> None:
    template.allow_parallel = True
    tasks = [retried(template, runner, cast) for _ in range(2)]
    controller = Controller(timezone.now())
    controller.look(LEASE)
    assert {attempt_and_state(task) for task in tasks} == {(1, TaskState.UNREACHABLE)}
    # It looks at the clock when the turn begins, and before each of the two.
    controller.stands_still = 2
    controller.look(1)
    one, other = sorted(tasks, key=attempt_and_state)
    assert attempt_and_state(one) == (1, TaskState.UNREACHABLE)
    assert attempt_and_state(other) == (2, TaskState.QUEUED)
    controller.look(LEASE)
    assert attempt_and_state(one) == (1, TaskState.UNREACHABLE)
    controller.look(1)
    assert attempt_and_state(one) == (2, TaskState.QUEUED)
    assert caplog.text.count("could hear nobody for 3601 s") == 1


@pytest.mark.django_db
def test_a_controller_says_that_it_listens_and_when_that_was_enough(
    template: TaskTemplate, caplog: pytest.LogCaptureFixture
) -> None:
    """One that is started again and again ends no lease, and its log shows why."""
    caplog.set_level(logging.INFO)
    controller = Controller(timezone.now())
    controller.look(LEASE)
    controller.start()
    controller.look(LEASE)
    assert caplog.text.count(f"no lease ends for {LEASE} s") == 2
    assert "leases may end" not in caplog.text
    controller.look(LEASE)
    assert caplog.text.count("leases may end") == 1
