"""What an earlier worker left is reported while the runner's new one is heard."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from django.utils import timezone

from runners.models import Runner
from runners.worker.protocol import ClaimRequest, Heartbeat, Receipt, Report, Result, TaskRef
from tasks.claim import claim_task
from tasks.errors import ClaimRefusedError
from tasks.heartbeat import take_heartbeat
from tasks.intake import take_report
from tasks.lifecycle import TaskState
from tasks.models import Task
from tests.meeting import meanwhile, once_read

SESSION = "s" * 16
FIRST, SECOND = "first-nonce-012345", "second-nonce-01234"
CALLS_IT_UNREACHABLE = '"unreachable_at" ='


def nothing_was_run(task: Task, nonce: str | None = None) -> Report:
    digest, reason = hashlib.sha256().hexdigest(), "Nothing was run."
    cut = {"is_cut_short": True, "nonce": nonce}
    result = Result(task.pk, 1, "failed", None, reason, 0, digest, 0.0, **cut)  # type: ignore[arg-type]
    return Report((), (), (result,))


def take(runner: Runner, report: Report) -> Receipt:
    return take_report(runner=runner, report=report, now=timezone.now()).receipts[0]


def come_back(task: Task, runner: Runner) -> object:
    message = Heartbeat(SESSION, (TaskRef(task.pk, 1),))
    return take_heartbeat(runner=runner, message=message, now=timezone.now())


def claim(task: Task, runner: Runner, nonce: str) -> None:
    runner.refresh_from_db()
    request = ClaimRequest(task.pk, 1, nonce, keeps_leases=True)
    claim_task(runner=runner, request=request, now=timezone.now())
    task.refresh_from_db()


@pytest.fixture
def retried(task: Task, runner: Runner) -> Task:
    """A waiting task that may run again when its runner is lost."""
    Runner.objects.filter(pk=runner.pk).update(session=SESSION)
    runner.refresh_from_db()
    Task.objects.filter(pk=task.pk).update(lost_runner_policy="retry", max_attempts=2)
    task.refresh_from_db()
    return task


@pytest.mark.django_db(transaction=True)
def test_what_was_cut_short_is_run_again_also_when_its_runner_comes_back_at_that_moment(
    retried: Task, runner: Runner
) -> None:
    claim(retried, runner, FIRST)
    assert retried.mark_unreachable(now=timezone.now())
    begin, thread = meanwhile(lambda: come_back(retried, runner))
    with once_read(CALLS_IT_UNREACHABLE, begin):
        take(runner, nothing_was_run(retried, FIRST))
    thread.join()
    retried.refresh_from_db()
    assert (retried.state, retried.attempt) == (TaskState.QUEUED, 2)


@pytest.mark.django_db
def test_a_late_copy_of_what_an_earlier_worker_left_ends_nothing_that_was_claimed_since(
    retried: Task, runner: Runner
) -> None:
    """The first claim never came: its worker was killed."""
    left = nothing_was_run(retried, FIRST)
    assert not take(runner, left).is_held
    claim(retried, runner, SECOND)
    receipt = take(runner, left)
    assert not receipt.is_held and not receipt.is_finished
    retried.refresh_from_db()
    assert (retried.state, retried.attempt) == (TaskState.STARTING, 1)
    take(runner, nothing_was_run(retried, SECOND))
    retried.refresh_from_db()
    assert (retried.state, retried.attempt) == (TaskState.QUEUED, 2)


@pytest.mark.django_db
def test_a_claim_that_was_held_up_until_its_worker_had_ended_is_refused(
    retried: Task, runner: Runner
) -> None:
    """The next worker has said that nothing was run, and would know nothing of it."""
    late = ClaimRequest(retried.pk, 1, FIRST, keeps_leases=True, session="t" * 16)
    with pytest.raises(ClaimRefusedError, match="another worker has connected as web-1 since"):
        claim_task(runner=runner, request=late, now=timezone.now())
    now = replace(late, nonce=SECOND, session=SESSION)
    assert claim_task(runner=runner, request=now, now=timezone.now()).state == TaskState.STARTING


@pytest.mark.django_db
def test_a_worker_that_sends_no_nonce_is_believed(retried: Task, runner: Runner) -> None:
    """Of an earlier version, or one that cannot read its own note of the claim."""
    claim(retried, runner, FIRST)
    take(runner, nothing_was_run(retried))
    retried.refresh_from_db()
    assert (retried.state, retried.attempt) == (TaskState.QUEUED, 2)
