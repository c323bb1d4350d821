"""A worker says that it cannot take tasks: its runner is unhealthy, and no task counts on it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from runners.models import Runner
from runners.operations import connect_runner
from runners.status import RunnerStatus
from runners.worker.protocol import (
    PROTOCOL_VERSION,
    VERSION,
    ClaimRequest,
    ConnectRequest,
    Heartbeat,
)
from tasks.candidates import Situation
from tasks.claim import claim_task
from tasks.heartbeat import take_heartbeat
from tasks.models import Leadership, Task, TaskTemplate
from tasks.operations import run_template, save_template
from tasks.publish import put_out_project
from tasks.waiting import why_waiting
from tests.cast import Cast

pytestmark = pytest.mark.django_db

WHY = "The journal cannot be written: No space left on device"


def connect(runner: Runner, session: str = "s" * 16) -> None:
    request = ConnectRequest(PROTOCOL_VERSION, VERSION, session, "i" * 16, "host", "Debian")
    connect_runner(runner=runner, request=request, address=None, now=timezone.now())


def beat(runner: Runner, trouble: str = "", **more: Any) -> Runner:
    row = Runner.objects.get(pk=runner.pk)
    message = Heartbeat("s" * 16, (), trouble=trouble, **more)
    take_heartbeat(runner=row, message=message, now=timezone.now())
    return Runner.objects.get(pk=runner.pk)


def status(runner: Runner) -> RunnerStatus:
    return Runner.objects.get(pk=runner.pk).status_at(timezone.now(), running=1)


@pytest.fixture
def ill(runner: Runner) -> Runner:
    connect(runner)
    return beat(runner, WHY)


def test_it_is_unhealthy_until_a_heartbeat_says_nothing_of_it(ill: Runner) -> None:
    assert (ill.trouble, status(ill)) == (WHY, RunnerStatus.UNHEALTHY)
    assert beat(ill).trouble == ""
    assert status(ill) == RunnerStatus.BUSY


def test_another_worker_begins_without_it(ill: Runner) -> None:
    connect(ill, session="t" * 16)
    assert Runner.objects.get(pk=ill.pk).trouble == ""


def test_who_leaves_in_good_order_leaves_no_trouble(ill: Runner) -> None:
    assert beat(ill, is_leaving=True).trouble == ""


def test_a_session_that_has_ended_says_nothing_of_the_next(ill: Runner) -> None:
    beat(ill)
    late = Runner.objects.get(pk=ill.pk)
    connect(ill, session="t" * 16)
    assert not late.note_trouble(WHY)
    assert Runner.objects.get(pk=ill.pk).trouble == ""


def test_only_a_change_is_written(ill: Runner, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert not ill.note_trouble(WHY)
    with django_assert_num_queries(1):
        assert ill.note_trouble("The journal cannot be written: Read-only file system")


def test_that_forges_own_broker_is_away_is_not_said_of_its_host(ill: Runner) -> None:
    told = (
        "Its host cannot reach the broker: The broker tunnel wss://forge.example.net/runner/broker "
        "was refused: The broker cannot be reached from Forge at the moment"
    )
    assert beat(ill, told).trouble == "Forge's broker does not answer"
    own = "Its host cannot reach the broker: wss://forge.example.net does not take WebSockets"
    assert beat(ill, own).trouble == own


@pytest.mark.parametrize(
    "told",
    [
        "The broker tunnel wss://forge.example.net/runner/broker was refused: The broker does not "
        "know this runner's account yet. The controller restores it within seconds, if it ru",
        "invalid username-password pair or user is disabled",
        "The broker at broker.example.net:6380 refuses this runner's account. Check that the Forge",
    ],
)
def test_that_the_broker_lost_its_account_is_not_said_of_its_host_and_a_controller_cures_it(
    told: str, ill: Runner, task: Task
) -> None:
    trouble = beat(ill, f"Its host cannot reach the broker: {told}").trouble
    assert trouble.startswith("Forge's broker does not know its account")
    now = timezone.now()
    assert Leadership.acquire("controller", holder="it", now=now, until=now + timedelta(hours=1))
    assert (
        why_waiting(task, now)
        == f"web-1, the only runner that may take it, cannot take tasks: {trouble}."
    )
    Leadership.release("controller", holder="it", now=now)
    sentence = why_waiting(task, now + timedelta(seconds=1))
    assert sentence.startswith("No controller runs since ")
    assert sentence.endswith(
        "only it gives the broker back the accounts of runners, which it has lost. Start one."
    )
    # Where another runner may take it, that is what it waits for.
    beat(ill)
    assert "accounts" not in why_waiting(task, now + timedelta(seconds=1))


def test_a_waiting_task_names_it_and_does_not_count_on_it(ill: Runner, task: Task) -> None:
    assert why_waiting(task, timezone.now()) == (
        f"web-1, the only runner that may take it, cannot take tasks: {WHY}."
    )
    situation = Situation(task.project_id, now=timezone.now())
    assert situation.free_slots(["linux"]) == 0
    (found,) = situation.candidates(["linux"]).all
    assert not found.is_free and found.why_not == f"Matches, but cannot take tasks: {WHY}"


def test_with_a_limit_it_is_given_no_hint_and_its_recovery_puts_one_out(
    ill: Runner, task: Task, cast: Cast
) -> None:
    cast.project.max_parallel_tasks = 1
    cast.project.save()
    Task.objects.filter(pk=task.pk).update(hinted_at=None)
    put_out_project(cast.project.pk)
    assert not Task.objects.filter(pk=task.pk).hinted().exists()
    beat(ill)
    assert Task.objects.filter(pk=task.pk).hinted().exists()


def test_a_host_with_one_user_for_tasks_is_busy_with_one(
    runner: Runner, task: Task, template: TaskTemplate, cast: Cast
) -> None:
    Runner.objects.filter(pk=runner.pk).update(concurrency=3)
    connect(runner)
    Runner.objects.filter(pk=runner.pk).update(host_slots=1)
    beat(runner)
    claim = ClaimRequest(task.pk, task.attempt, "n" * 16)
    claim_task(runner=Runner.objects.get(pk=runner.pk), request=claim, now=timezone.now())
    template.allow_parallel = True
    save_template(template=template, tags=["linux"])
    waits = run_template(template=template, by=cast.operator, now=timezone.now())
    Task.objects.filter(pk=waits.pk).update(hinted_at=None)
    waits.refresh_from_db()
    situation = Situation(waits.project_id, now=timezone.now())
    assert situation.free_slots(["linux"]) == 0
    (found,) = situation.candidates(["linux"]).all
    assert found.why_not == "Its slot is taken"
    assert "web-1, the only runner for it, is busy" in why_waiting(waits, timezone.now())
