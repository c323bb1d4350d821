"""A claim meets what somebody does with its runner at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from django.db import connection, connections, transaction
from django.utils import timezone

from projects.models import Project
from runners.models import Runner
from runners.operations import (
    change_runner,
    drain_runner,
    pause_runner,
    quarantine_runner,
    remove_runner,
)
from runners.worker.protocol import ClaimRequest
from tasks.claim import claim_task
from tasks.errors import ClaimRefusedError
from tasks.lifecycle import TaskState
from tasks.models import Task
from tasks.operations import retire_runner
from tests.cast import Cast
from tests.deployment.client import wait_for
from tests.meeting import is_waited_for, once_read

NONCE = "n" * 22
READS_THE_TASK = 'FROM "tasks_task"'
Order = Callable[[Runner, Cast], None]


def ask(task: Task, runner: Runner) -> Task:
    request = ClaimRequest(task.pk, 1, NONCE)
    return claim_task(runner=runner, request=request, now=timezone.now())


def given(task: Task, runner: Runner) -> bool:
    """The same claim, in the moment in which it is committed."""
    row = Task.objects.get(pk=task.pk)
    return row.claim(runner=runner, attempt=1, nonce=NONCE, now=timezone.now())


def heard(runner: Runner) -> Runner:
    now = timezone.now()
    rows = Runner.objects.filter(pk=runner.pk)
    rows.update(session="one", connected_at=now, last_heartbeat_at=now)
    return rows.get()


def remove(runner: Runner, cast: Cast) -> None:
    remove_runner(runner=runner, now=timezone.now())


def pause(runner: Runner, cast: Cast) -> None:
    pause_runner(runner=runner, reason="Patches.", until=None, by=cast.owner, now=timezone.now())


def drain(runner: Runner, cast: Cast) -> None:
    drain_runner(
        runner=runner, reason="Patches.", stays_paused=False, by=cast.owner, now=timezone.now()
    )


def quarantine(runner: Runner, cast: Cast) -> None:
    quarantine_runner(runner=runner, reason="It floods.", now=timezone.now())


def change(runner: Runner, cast: Cast) -> None:
    change_runner(runner=runner, changes={"takes_untagged": False}, tags=["gpu"])


ORDERS = [
    (change, "not this runner's"),
    (remove, "web-1 was removed"),
    (pause, "web-1 is paused by owner"),
    (drain, "web-1 is being drained"),
    (quarantine, "web-1 is cut off from the broker"),
]


@pytest.mark.django_db
@pytest.mark.parametrize(("order", "why"), ORDERS)
def test_an_order_that_came_after_the_request_was_let_in_decides(
    order: Order, why: str, task: Task, runner: Runner, cast: Cast
) -> None:
    let_in = heard(runner)
    order(Runner.objects.get(pk=runner.pk), cast)
    with pytest.raises(ClaimRefusedError, match=why):
        ask(task, let_in)
    task.refresh_from_db()
    assert (task.state, task.runner) == (TaskState.QUEUED, None)


@pytest.mark.django_db
@pytest.mark.parametrize("order", [pause, drain, quarantine])
def test_a_repetition_learns_what_it_holds_whatever_was_ordered_meanwhile(
    order: Order, task: Task, runner: Runner, cast: Cast
) -> None:
    """The first one is committed after the second has read the row; then comes the order."""
    runner = heard(runner)

    def first() -> None:
        assert given(task, runner)
        order(Runner.objects.get(pk=runner.pk), cast)

    with once_read(READS_THE_TASK, first):
        assert ask(task, Runner.objects.get(pk=runner.pk)).state == TaskState.STARTING


@pytest.mark.django_db
def test_a_repetition_is_not_refused_because_its_first_one_filled_the_project(
    task: Task, runner: Runner, cast: Cast
) -> None:
    Project.objects.filter(pk=cast.project.pk).update(max_parallel_tasks=1)
    runner = Runner.objects.get(pk=runner.pk)
    with once_read(READS_THE_TASK, lambda: given(task, runner)):
        assert ask(task, runner).state == TaskState.STARTING


@pytest.mark.django_db(transaction=True)
def test_a_claim_that_waits_for_the_removal_of_its_runner_gets_nothing(
    task: Task, runner: Runner, cast: Cast
) -> None:
    let_in = Runner.objects.get(pk=runner.pk)
    refusals: list[str] = []

    def claim() -> None:
        try:
            ask(task, let_in)
        except ClaimRefusedError as error:
            refusals.append(error.why)
        finally:
            connections.close_all()

    claimant = threading.Thread(target=claim)
    with transaction.atomic():
        assert retire_runner(runner=runner, by=cast.owner, now=timezone.now()) == 0
        claimant.start()
        if connection.vendor == "postgresql":
            wait_for(is_waited_for, "the claim to wait for the runner's row")
    claimant.join()
    task.refresh_from_db()
    assert (task.state, refusals) == (TaskState.QUEUED, ["web-1 was removed"])
