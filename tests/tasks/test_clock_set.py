"""The clock of Forge's host was wrong and is set right: what was written before misleads nobody."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from runners.broker import administrator, project_prefix
from runners.errors import RunnerInUseError
from runners.models import Runner
from runners.operations import connect_runner
from runners.status import RunnerStatus
from runners.worker.protocol import ConnectRequest
from tasks.lifecycle import TaskState
from tasks.models import Task, TaskTemplate
from tasks.operations import run_template
from tasks.publish import put_out_project, reconcile
from tests.cast import Cast
from tests.runners.conftest import broker_url, real
from tests.tasks.test_listening_first import (
    AN_HOUR,
    BEAT,
    LEASE,
    SILENCE,
    Controller,
    attempt_and_state,
)
from tests.tasks.test_losing_runners import beat, claim, retried, task_with

__all__ = ["broker_url", "real"]


def set_back(controller: Controller, *, restarts: bool) -> None:
    """The host booted an hour ahead; maybe Forge is started again before anybody looks."""
    controller.now -= AN_HOUR
    if restarts:
        controller.start()


def connect(runner: Runner, controller: Controller, instance: str) -> Runner:
    request = ConnectRequest(4, "0.1.0", "s" * 16, instance, "host", "Linux")
    return connect_runner(runner=runner, request=request, address=None, now=controller.now)


@pytest.mark.django_db
@pytest.mark.parametrize("restarts", [False, True], ids=["goes on", "restarts"])
def test_a_runner_that_died_before_is_not_believed_to_live(
    template: TaskTemplate, runner: Runner, cast: Cast, restarts: bool
) -> None:
    task = task_with(template, runner, cast)
    controller = Controller(timezone.now() + AN_HOUR)
    connect(runner, controller, "old host")
    controller.look(SILENCE, runner, task)
    Task.objects.filter(pk=task.pk).update(claimed_at=controller.now)
    set_back(controller, restarts=restarts)
    controller.look(SILENCE + 2)
    assert attempt_and_state(task) == (1, TaskState.UNREACHABLE)
    runner.refresh_from_db()
    assert runner.status_at(controller.now, running=0) == RunnerStatus.OFFLINE
    assert connect(runner, controller, "new host").instance == "new host"


@pytest.mark.django_db
def test_a_runner_that_lives_keeps_its_host_when_the_clock_was_set_back(
    template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    controller = Controller(timezone.now() + AN_HOUR)
    connect(runner, controller, "old host")
    controller.look(BEAT, runner)
    set_back(controller, restarts=False)
    controller.look(2 * SILENCE, runner)
    with pytest.raises(RunnerInUseError):
        connect(runner, controller, "new host")


@pytest.mark.django_db
@pytest.mark.parametrize("restarts", [False, True], ids=["goes on", "restarts"])
def test_a_lease_that_was_given_before_ends_in_its_time(
    template: TaskTemplate, runner: Runner, cast: Cast, restarts: bool
) -> None:
    task = retried(template, runner, cast)
    controller = Controller(timezone.now() + AN_HOUR)
    controller.look(LEASE + SILENCE, runner, task)
    set_back(controller, restarts=restarts)
    controller.look(LEASE)
    assert attempt_and_state(task) == (1, TaskState.UNREACHABLE)
    controller.look(2)
    assert attempt_and_state(task) == (2, TaskState.QUEUED)


@pytest.mark.django_db
def test_a_lost_hint_is_repeated(
    real: str, template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    controller = Controller(timezone.now() + AN_HOUR)
    connect(runner, controller, "here")
    beat(runner, now=controller.now)
    run_template(template=template, by=cast.operator, now=controller.now)
    put_out_project(cast.project.pk, now=controller.now)
    set_back(controller, restarts=False)
    controller.start()
    controller.look(1, runner)
    assert administrator().delete(f"{project_prefix(cast.project.pk)}tasks.linux")
    controller.look(3, runner)
    assert reconcile(now=controller.now) == 1


@pytest.mark.django_db
@pytest.mark.parametrize("set_by", [AN_HOUR, -AN_HOUR], ids=["forward", "back"])
def test_a_wait_lasts_as_long_as_its_template_says(
    template: TaskTemplate, runner: Runner, cast: Cast, set_by: timedelta
) -> None:
    task = task_with(template, runner, cast, lost_runner_wait_seconds=600)
    controller = Controller(timezone.now())
    controller.look(2 * SILENCE)
    assert attempt_and_state(task) == (1, TaskState.UNREACHABLE)
    waited = (controller.now - (task.unreachable_at or controller.now)).total_seconds()
    controller.now += set_by
    controller.look(round(599 - waited))
    assert attempt_and_state(task) == (1, TaskState.UNREACHABLE)
    controller.look(2)
    assert attempt_and_state(task) == (1, TaskState.LOST)
    assert "Forge waited 10 min 0" in task.reason


@pytest.mark.django_db
def test_a_wait_that_began_before_a_restart_is_not_longer_by_what_the_clock_was_set(
    template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    task = task_with(template, runner, cast, lost_runner_wait_seconds=600)
    controller = Controller(timezone.now())
    controller.look(2 * SILENCE)
    set_back(controller, restarts=True)
    controller.look(599)
    assert attempt_and_state(task) == (1, TaskState.UNREACHABLE)
    controller.look(2)
    assert attempt_and_state(task) == (1, TaskState.LOST)


@pytest.mark.django_db
def test_a_wait_is_as_long_where_another_controller_led_when_the_clock_was_set(
    template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    task = task_with(template, runner, cast, lost_runner_wait_seconds=600)
    first = Controller(timezone.now())
    first.look(2 * SILENCE)
    assert attempt_and_state(task) == (1, TaskState.UNREACHABLE)
    waited = round((first.now - (task.unreachable_at or first.now)).total_seconds())
    second = Controller(first.now)
    second.look(10)
    second.now -= AN_HOUR
    second.look(10)
    first.lead_again(second, 20)
    first.look(595 - waited - 20)
    assert attempt_and_state(task) == (1, TaskState.UNREACHABLE)
    first.look(10)
    assert attempt_and_state(task) == (1, TaskState.LOST)


@pytest.mark.django_db
def test_a_claim_that_crosses_a_heartbeat_is_kept_though_its_session_began_in_the_future(
    template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    """No controller has looked since; its answer is on the way to the worker."""
    now = timezone.now()
    Runner.objects.filter(pk=runner.pk).update(connected_at=now + AN_HOUR)
    runner.refresh_from_db()
    task = run_template(template=template, by=cast.operator, now=now)
    claim(task, runner, now=now)
    beat(runner, now=now)
    assert attempt_and_state(task) == (1, TaskState.STARTING)
    # Not for ever: a worker that has died meanwhile never gets it.
    beat(runner, now=now + timedelta(seconds=LEASE))
    assert attempt_and_state(task) == (1, TaskState.LOST)
