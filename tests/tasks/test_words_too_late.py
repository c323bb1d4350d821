"""What a runner says is overtaken by what becomes of its task: reports, heartbeats and stops."""

from __future__ import annotations

import pytest
from django.utils import timezone

from runners.models import Runner
from runners.worker.protocol import (
    ClaimRequest,
    Heartbeat,
    HeartbeatReply,
    Overflow,
    Report,
    Started,
    TaskRef,
)
from tasks.claim import claim_task
from tasks.heartbeat import take_heartbeat
from tasks.intake import take_report
from tasks.lifecycle import TaskState
from tasks.models import Task, TaskTemplate
from tasks.operations import run_template
from tests.cast import Cast
from tests.meeting import once_read

SESSION = "s" * 16
READS_TASKS = 'FROM "tasks_task"'


@pytest.fixture
def claimed(task: Task, runner: Runner) -> Task:
    """Its first attempt is `runner`'s, which has said nothing of a start; it may be run again."""
    Task.objects.filter(pk=task.pk).update(lost_runner_policy="retry", max_attempts=3)
    claim(task, runner)
    return Task.objects.get(pk=task.pk)


def claim(task: Task, runner: Runner, attempt: int = 1) -> Task:
    request = ClaimRequest(task.pk, attempt, f"nonce of attempt {attempt}", keeps_leases=True)
    return claim_task(runner=runner, request=request, now=timezone.now())


def begin_again(task: Task, runner: Runner) -> Task:
    """The first attempt is over, and the same runner claims the second."""
    row = Task.objects.get(pk=task.pk)
    row.mark_unreachable(now=timezone.now())
    assert row.retry(attempt=1, now=timezone.now(), is_over=True)
    return claim(task, runner, attempt=2)


def report(
    runner: Runner, started: tuple[Started, ...] = (), overflows: tuple[Overflow, ...] = ()
) -> None:
    message = Report(started, (), (), overflows)
    take_report(runner=runner, report=message, now=timezone.now())


@pytest.mark.django_db
@pytest.mark.parametrize("was_silent", [False, True])
def test_a_start_of_an_attempt_that_is_over_says_nothing_of_the_next_one(
    was_silent: bool, claimed: Task, runner: Runner
) -> None:
    if was_silent:
        assert claimed.mark_unreachable(now=timezone.now())
    with once_read(READS_TASKS, lambda: begin_again(claimed, runner)):
        report(runner, started=(Started(claimed.pk, 1, 0.0),))
    claimed.refresh_from_db()
    assert (claimed.attempt, claimed.state) == (2, TaskState.STARTING)
    assert claimed.started_at is None
    # Its claim may still be asked for again: the answer may have been lost.
    assert claim(claimed, runner, attempt=2).attempt == 2


@pytest.mark.django_db
def test_a_start_is_noted_of_what_became_unreachable_as_it_was_reported(
    claimed: Task, runner: Runner
) -> None:
    row = Task.objects.get(pk=claimed.pk)
    with once_read(READS_TASKS, lambda: row.mark_unreachable(now=timezone.now())):
        report(runner, started=(Started(claimed.pk, 1, 0.0),))
    claimed.refresh_from_db()
    assert claimed.state == TaskState.UNREACHABLE and claimed.started_at is not None


@pytest.mark.django_db
def test_what_a_runner_says_of_a_log_that_was_finished_meanwhile_is_not_kept(
    claimed: Task, runner: Runner
) -> None:
    row = Task.objects.get(pk=claimed.pk)
    assert row.start(runner=runner, attempt=1, now=timezone.now())

    def finish() -> None:
        end = {"reason": "It ended.", "log_complete": True}
        now = timezone.now()
        assert row.finish(TaskState.SUCCEEDED, runner=runner, attempt=1, now=now, **end)

    with once_read(READS_TASKS, finish):
        report(runner, overflows=(Overflow(claimed.pk, 1, 4, 700),))
    claimed.refresh_from_db()
    assert (claimed.log_gap_offset, claimed.log_written_bytes) == (None, 0)


def beat(runner: Runner, *attempts: TaskRef) -> HeartbeatReply:
    message = Heartbeat(SESSION, attempts)
    return take_heartbeat(runner=runner, message=message, now=timezone.now())


@pytest.mark.django_db
def test_the_lease_of_the_next_attempt_is_not_taken_for_that_of_the_one_before(
    claimed: Task, runner: Runner
) -> None:
    Runner.objects.filter(pk=runner.pk).update(session=SESSION)
    runner.refresh_from_db()
    with once_read(READS_TASKS, lambda: begin_again(claimed, runner)):
        reply = beat(runner, TaskRef(claimed.pk, 1))
    assert (reply.renewed, reply.drop) == ((), (TaskRef(claimed.pk, 1),))


@pytest.mark.django_db
def test_leases_of_different_attempts_are_renewed_at_once(
    claimed: Task, template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    begin_again(claimed, runner)
    template.allow_parallel = True
    template.save()
    first = claim(run_template(template=template, by=cast.owner, now=timezone.now()), runner)
    both = (TaskRef(claimed.pk, 2), TaskRef(first.pk, 1))
    assert beat(runner, *both, TaskRef(claimed.pk, 1)).renewed == both
