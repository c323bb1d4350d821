"""A runner is lost, comes back or does not: what each policy makes of its task."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import IntegrityError, connections, transaction
from django.utils import timezone

from runners.models import Runner
from runners.operations import create_runner
from runners.worker.protocol import (
    ClaimRequest,
    Heartbeat,
    HeartbeatReply,
    Piece,
    Receipt,
    Report,
    Result,
    Started,
    TaskRef,
)
from tasks.attempts import as_of_attempt, attempts_of
from tasks.claim import claim_task, job_of
from tasks.errors import ClaimRefusedError, TaskFinishedError
from tasks.heartbeat import take_heartbeat
from tasks.intake import take_report
from tasks.lifecycle import TaskState
from tasks.log import read_log
from tasks.models import Task, TaskTemplate
from tasks.operations import force_stop_task, run_template, save_template, stop_task
from tasks.policies import CLOCK_DIFFERENCE
from tasks.reaping import end_waits, mark_silent
from tests.cast import Cast

SESSION = "s" * 16
SILENCE = timedelta(seconds=30)
LEASE = timedelta(seconds=settings.FORGE_LEASE_SECONDS)
A_MOMENT = timedelta(seconds=1)


@pytest.fixture
def other(cast: Cast) -> Runner:
    """A second runner that may take the same tasks."""
    return create_runner(
        project=cast.project,
        name="web-2",
        tags=["linux"],
        concurrency=2,
        takes_untagged=True,
        by=cast.owner,
        now=timezone.now(),
    ).runner


def task_with(template: TaskTemplate, runner: Runner, cast: Cast, **policy: Any) -> Task:
    """A task of such a template that `runner` runs and was heard with a moment ago."""
    for name, value in policy.items():
        setattr(template, name, value)
    save_template(template=template, tags=["linux"])
    task = run_template(template=template, by=cast.operator, now=timezone.now())
    claim(task, runner)
    report(runner, Started(task.pk, task.attempt, 0.0))
    beat(runner, task, now=timezone.now())
    task.refresh_from_db()
    return task


def retried(template: TaskTemplate, runner: Runner, cast: Cast, **more: Any) -> Task:
    policy = {"lost_runner_policy": "retry", "safe_to_rerun": True, **more}
    return task_with(template, runner, cast, **policy)


def claim(task: Task, runner: Runner, nonce: str = "n" * 16, now: datetime | None = None) -> Task:
    request = ClaimRequest(task.pk, task.attempt, nonce, keeps_leases=True)
    return claim_task(runner=runner, request=request, now=now or timezone.now())


def beat(runner: Runner, *tasks: Task, now: datetime, **more: Any) -> HeartbeatReply:
    held = tuple(TaskRef(task.pk, task.attempt) for task in tasks)
    runner.refresh_from_db()
    return take_heartbeat(runner=runner, message=Heartbeat(SESSION, held, **more), now=now)


def report(runner: Runner, *items: Any, now: datetime | None = None) -> Receipt:
    def of(kind: type) -> tuple[Any, ...]:
        return tuple(item for item in items if isinstance(item, kind))

    message = Report(of(Started), of(Piece), of(Result))
    return take_report(runner=runner, report=message, now=now or timezone.now()).receipts[0]


def result(task: Task, outcome: str = "succeeded", log: bytes = b"", **more: Any) -> Result:
    digest = hashlib.sha256(log).hexdigest()
    return Result(task.pk, task.attempt, outcome, 0, "It ended.", len(log), digest, 0.0, **more)


def let_pass(length: timedelta, task: Task) -> datetime:
    """The controller's turns at the end of `length` of silence; returns that moment."""
    now = timezone.now() + length
    mark_silent(now=now, after=SILENCE)
    end_waits(now=now)
    task.refresh_from_db()
    return now


# Times


@pytest.mark.django_db
def test_a_slow_report_of_the_start_puts_no_end_before_it(
    template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    """The start took a second to come here, and the result, of half a second later, nothing."""
    task = run_template(template=template, by=cast.operator, now=timezone.now())
    claim(task, runner)
    now = timezone.now() + timedelta(seconds=2)
    report(runner, Started(task.pk, 1, 0.0), now=now)
    report(runner, result(task), now=now - timedelta(seconds=0.5))
    task.refresh_from_db()
    assert task.claimed_at and task.started_at and task.finished_at
    assert task.claimed_at <= task.started_at <= task.finished_at


@pytest.mark.django_db
def test_a_result_that_comes_without_a_start_has_both_at_once(
    template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    task = run_template(template=template, by=cast.operator, now=timezone.now())
    claim(task, runner)
    report(
        runner, replace(result(task), age_seconds=0.5), now=timezone.now() + timedelta(seconds=2)
    )
    task.refresh_from_db()
    assert task.state == TaskState.SUCCEEDED and task.started_at == task.finished_at


# The three policies


@pytest.mark.django_db
def test_by_default_a_lost_runner_is_waited_for(
    template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    task = task_with(template, runner, cast)
    silent = let_pass(SILENCE + A_MOMENT, task)
    assert task.state == TaskState.UNREACHABLE
    wait = timedelta(seconds=settings.FORGE_UNREACHABLE_SECONDS)
    assert task.wait_ends_at == silent + wait
    end_waits(now=silent + wait - A_MOMENT)
    task.refresh_from_db()
    assert task.state == TaskState.UNREACHABLE
    end_waits(now=silent + wait)
    task.refresh_from_db()
    assert task.state == TaskState.LOST
    assert "web-1" in task.reason and "1 h 00 min" in task.reason


@pytest.mark.django_db
def test_a_template_says_how_long_to_wait(
    template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    task = task_with(template, runner, cast, lost_runner_wait_seconds=120)
    silent = let_pass(SILENCE + A_MOMENT, task)
    end_waits(now=silent + timedelta(seconds=120))
    task.refresh_from_db()
    assert task.state == TaskState.LOST and "waited 2 min" in task.reason


@pytest.mark.django_db
def test_giving_up_at_once_needs_no_wait(
    template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    task = task_with(template, runner, cast, lost_runner_policy="fail")
    let_pass(SILENCE + A_MOMENT, task)
    assert task.state == TaskState.LOST and "give up at once" in task.reason


@pytest.mark.django_db
def test_a_retry_waits_for_the_end_of_the_lease_and_no_longer(
    template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    task = retried(template, runner, cast)
    let_pass(SILENCE + A_MOMENT, task)
    assert task.state == TaskState.UNREACHABLE
    lease = task.lease_expires_at
    assert lease is not None
    end_waits(now=lease + CLOCK_DIFFERENCE - A_MOMENT)
    task.refresh_from_db()
    assert (task.state, task.attempt) == (TaskState.UNREACHABLE, 1)
    end_waits(now=lease + CLOCK_DIFFERENCE + A_MOMENT)
    task.refresh_from_db()
    assert (task.state, task.attempt) == (TaskState.QUEUED, 2)
    assert (task.runner, task.nonce, task.claimed_at, task.log_bytes) == (None, "", None, 0)
    assert task.queued_at == task.earlier_attempts.get().ended_at > task.created_at


@pytest.mark.django_db
def test_a_lease_that_was_renewed_meanwhile_forbids_the_retry(
    template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    task = retried(template, runner, cast)
    late = timezone.now() + LEASE + SILENCE
    mark_silent(now=late, after=SILENCE)
    # The renewal is committed, the way back into `running` is not yet.
    Task.objects.filter(pk=task.pk).renew_leases(runner, now=late)
    end_waits(now=late + A_MOMENT)
    task.refresh_from_db()
    assert (task.state, task.attempt) == (TaskState.UNREACHABLE, 1)


@pytest.mark.django_db
@pytest.mark.parametrize("policy", ["wait", "retry"])
def test_a_controller_that_is_held_up_ends_no_wait_that_has_begun_since(
    policy: str, template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    """It has read that the wait is over; the runner comes back, and falls silent anew."""
    # The last attempt: nothing of it is to be called lost that still runs.
    task = task_with(
        template, runner, cast, lost_runner_policy=policy, safe_to_rerun=True, max_attempts=2
    )
    Task.objects.filter(pk=task.pk).update(attempt=2 if policy == "retry" else 1)
    task.refresh_from_db()
    over = let_pass(SILENCE + A_MOMENT, task) + timedelta(seconds=task.wait_seconds) + LEASE

    def held_up() -> bool:
        beat(runner, task, now=over)
        mark_silent(now=over + SILENCE + A_MOMENT, after=SILENCE)
        return True

    assert end_waits(now=over, goes_on=held_up) == 0
    task.refresh_from_db()
    assert task.state == TaskState.UNREACHABLE


@pytest.mark.django_db
def test_the_last_attempt_that_is_heard_meanwhile_is_not_lost(
    template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    """The renewal of its lease is committed, the way back into `running` is not yet."""
    task = retried(template, runner, cast)
    Task.objects.filter(pk=task.pk).update(attempt=task.max_attempts)
    late = timezone.now() + LEASE + SILENCE
    mark_silent(now=late, after=SILENCE)
    Task.objects.filter(pk=task.pk).renew_leases(runner, now=late)
    assert end_waits(now=late + A_MOMENT) == 0
    task.refresh_from_db()
    assert task.state == TaskState.UNREACHABLE


@pytest.mark.django_db
def test_the_last_attempt_is_the_last(template: TaskTemplate, runner: Runner, cast: Cast) -> None:
    task = retried(template, runner, cast, max_attempts=2)
    let_pass(LEASE + SILENCE, task)
    claim(task, runner)
    Task.objects.filter(pk=task.pk).update(lease_expires_at=timezone.now() - LEASE)
    let_pass(LEASE + SILENCE, task)
    assert task.state == TaskState.LOST
    assert "attempt 2 of 2" in task.reason


@pytest.mark.django_db
def test_a_task_keeps_the_policy_that_it_was_queued_with(
    template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    task = task_with(template, runner, cast)
    template.lost_runner_policy = "fail"
    save_template(template=template, tags=["linux"])
    let_pass(SILENCE + A_MOMENT, task)
    assert task.state == TaskState.UNREACHABLE


@pytest.mark.django_db
def test_the_database_lets_only_safe_templates_be_run_again(template: TaskTemplate) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        TaskTemplate.objects.filter(pk=template.pk).update(lost_runner_policy="retry")


# Attempts


@pytest.mark.django_db
def test_the_log_of_an_earlier_attempt_stays_and_the_next_begins_at_zero(
    template: TaskTemplate, runner: Runner, other: Runner, cast: Cast
) -> None:
    task = retried(template, runner, cast)
    report(runner, Piece(task.pk, 1, 0, b"first\n"))
    let_pass(LEASE + SILENCE, task)
    claim(task, other)
    report(other, Piece(task.pk, 2, 0, b"second\n"))
    task.refresh_from_db()
    assert b"".join(read_log(task)) == b"second\n"
    first = as_of_attempt(task, 1)
    assert first is not None and b"".join(read_log(first)) == b"first\n"
    assert as_of_attempt(task, 3) is None


@pytest.mark.django_db
def test_the_history_says_where_each_attempt_ran_and_how_it_ended(
    template: TaskTemplate, runner: Runner, other: Runner, cast: Cast
) -> None:
    task = retried(template, runner, cast)
    let_pass(LEASE + SILENCE, task)
    claim(task, other)
    report(other, Started(task.pk, 2, 0.0), result(Task.objects.get(pk=task.pk)))
    task.refresh_from_db()
    told = [(one.number, one.runner.name, one.state) for one in attempts_of(task)]
    assert told == [(1, "web-1", "lost"), (2, "web-2", "succeeded")]
    assert "out of reach" in attempts_of(task)[0].reason


@pytest.mark.django_db
def test_a_cut_short_attempt_is_followed_at_once(
    template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    task = retried(template, runner, cast)
    Task.objects.filter(pk=task.pk).update(claimed_at=timezone.now() - timedelta(seconds=60))
    receipt = report(runner, result(task, "failed", is_cut_short=True, run_seconds=2.0))
    assert receipt.is_finished and not receipt.remark
    task.refresh_from_db()
    assert (task.state, task.attempt) == (TaskState.QUEUED, 2)
    first = task.earlier_attempts.get()
    assert first.state == TaskState.FAILED and task.started_at is None
    assert first.started_at and first.ended_at - first.started_at == timedelta(seconds=2)
    # The same once more, because the receipt was lost.
    assert report(runner, result(Task(pk=task.pk, attempt=1), "failed", is_cut_short=True))
    assert Task.objects.get(pk=task.pk).attempt == 2


@pytest.mark.django_db
@pytest.mark.parametrize("policy", ["wait", "fail"])
def test_without_that_policy_a_cut_short_attempt_has_failed(
    policy: str, template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    task = task_with(template, runner, cast, lost_runner_policy=policy)
    report(runner, result(task, "failed", is_cut_short=True))
    task.refresh_from_db()
    assert (task.state, task.attempt) == (TaskState.FAILED, 1)


@pytest.mark.django_db
def test_a_program_that_failed_by_itself_is_not_run_again(
    template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    task = retried(template, runner, cast)
    report(runner, result(task, "failed"))
    task.refresh_from_db()
    assert (task.state, task.attempt) == (TaskState.FAILED, 1)


# A runner that comes back


@pytest.mark.django_db
def test_a_runner_that_still_has_it_goes_on(
    template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    task = task_with(template, runner, cast)
    back = let_pass(SILENCE + A_MOMENT, task)
    reply = beat(runner, task, now=back)
    task.refresh_from_db()
    assert (task.state, task.unreachable_at, task.wait_ends_at) == (TaskState.RUNNING, None, None)
    assert reply.renewed == (TaskRef(task.pk, 1),) and not reply.drop
    assert task.lease_expires_at == back + LEASE


@pytest.mark.django_db
def test_a_late_result_is_taken_while_the_task_is_unreachable(
    template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    task = task_with(template, runner, cast)
    let_pass(SILENCE + A_MOMENT, task)
    receipt = report(runner, Piece(task.pk, 1, 0, b"late"), result(task, log=b"late"))
    task.refresh_from_db()
    assert receipt.is_finished and task.state == TaskState.SUCCEEDED and task.log_complete


@pytest.mark.django_db
def test_a_late_result_of_a_lost_task_is_refused_and_its_sender_told(
    template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    task = task_with(template, runner, cast, lost_runner_policy="fail")
    let_pass(SILENCE + A_MOMENT, task)
    receipt = report(runner, Piece(task.pk, 1, 0, b"late"), result(task, log=b"late"))
    task.refresh_from_db()
    assert (task.state, task.log_bytes) == (TaskState.LOST, 0)
    assert "given up as lost" in receipt.remark and receipt.is_finished


GIVEN_UP = (
    "Runner web-1 went silent, and nobody could say how the task ended. Its template says to give "
    "up at once; it may have run on there."
)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("end", "words"),
    [
        ({"reason": "The program ended with exit status 0."}, "The program ended with exit st"),
        ({"outcome": "stopped", "exit_code": 1}, "What was left of it was ended, with exit status"),
        ({"outcome": "stopped", "exit_code": None}, "What was left of it was ended. "),
        ({"outcome": "failed", "reason": "x" * 500}, "xxxxxxxxxx"),
    ],
)
def test_a_late_result_of_a_lost_task_is_told_in_its_reason_once(
    end: dict[str, Any], words: str, template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    task = task_with(template, runner, cast, lost_runner_policy="fail")
    now = let_pass(SILENCE + A_MOMENT, task)
    assert task.reason == GIVEN_UP
    before = {**Task.objects.values().get(pk=task.pk)}
    late = replace(result(task), age_seconds=1320.0, **end)
    report(runner, late, now=now)
    task.refresh_from_db()
    back, ended = (f"{one:%Y-%m-%d %H:%M} UTC" for one in (now, now - timedelta(seconds=1320)))
    assert task.reason.startswith(f"{GIVEN_UP} Its runner came back and said at {back}: {words}")
    assert f" That was no later than {ended}. The task stays lost, because" in task.reason
    assert len(task.reason) <= 500
    after = {**Task.objects.values().get(pk=task.pk)}
    assert {name for name in before if before[name] != after[name]} == {"reason"}
    report(runner, replace(late, reason="Another."), now=now + A_MOMENT)
    assert Task.objects.get(pk=task.pk).reason == after["reason"]


@pytest.mark.django_db
def test_of_a_lost_task_only_its_own_runner_and_attempt_say_how_it_ended(
    template: TaskTemplate, runner: Runner, other: Runner, cast: Cast
) -> None:
    task = task_with(template, runner, cast, lost_runner_policy="fail")
    let_pass(SILENCE + A_MOMENT, task)
    report(other, result(task))
    report(runner, replace(result(task), attempt=2))
    report(runner, result(task, nonce="m" * 16))
    report(runner, Piece(task.pk, 1, 0, b"late"))
    assert Task.objects.get(pk=task.pk).reason == GIVEN_UP


@pytest.mark.django_db
def test_a_late_result_of_an_attempt_that_another_has_followed_is_refused(
    template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    task = retried(template, runner, cast)
    late = result(task)
    now = let_pass(LEASE + SILENCE, task)
    receipt = report(runner, Piece(task.pk, 1, 0, b"late"), late)
    assert not receipt.is_held and "Attempt 1" in receipt.remark
    # The same runner may have the next attempt: that changes nothing for the first.
    claim(task, runner)
    assert not report(runner, late).is_held
    task.refresh_from_db()
    assert (task.state, task.attempt, task.log_bytes) == (TaskState.STARTING, 2, 0)
    assert beat(runner, Task(pk=task.pk, attempt=1), now=now).drop == (TaskRef(task.pk, 1),)


@pytest.mark.django_db
def test_a_runner_that_comes_back_without_it_ends_the_wait(
    template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    task = task_with(template, runner, cast)
    now = let_pass(SILENCE + A_MOMENT, task)
    Runner.objects.filter(pk=runner.pk).update(connected_at=now)
    beat(runner, now=now)
    task.refresh_from_db()
    assert task.state == TaskState.LOST and "without it" in task.reason


@pytest.mark.django_db
def test_coming_back_without_it_is_no_proof_that_it_may_run_elsewhere(
    template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    task = retried(template, runner, cast)
    now = timezone.now()
    Runner.objects.filter(pk=runner.pk).update(connected_at=now)
    beat(runner, now=now)
    end_waits(now=now)
    task.refresh_from_db()
    assert (task.state, task.attempt) == (TaskState.UNREACHABLE, 1)
    end_waits(now=now + LEASE + CLOCK_DIFFERENCE + A_MOMENT)
    task.refresh_from_db()
    assert (task.state, task.attempt) == (TaskState.QUEUED, 2)


@pytest.mark.django_db
def test_what_a_worker_has_forgotten_within_its_session_is_not_held_for_ever(
    template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    now = timezone.now()
    Runner.objects.filter(pk=runner.pk).update(connected_at=now)
    task = task_with(template, runner, cast)
    beat(runner, now=now + LEASE / 2)
    task.refresh_from_db()
    assert task.state == TaskState.RUNNING  # the answer to its claim may still travel
    beat(runner, now=now + 2 * LEASE)
    task.refresh_from_db()
    assert task.state == TaskState.LOST


@pytest.mark.django_db
def test_a_silence_that_ends_at_the_last_moment_costs_nothing(
    template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    task = task_with(template, runner, cast, lost_runner_policy="fail")
    now = timezone.now() + SILENCE + A_MOMENT
    stale = list(Task.objects.silent_since(now - SILENCE))
    beat(runner, task, now=now)
    assert not stale[0].mark_unreachable(now=now, silent_since=now - SILENCE)


@pytest.mark.django_db
def test_a_runner_that_claims_before_its_first_heartbeat_after_a_silence_is_not_lost(
    template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    """Its broker was in reach a moment before Forge was, or its heart was in a pause."""
    TaskTemplate.objects.filter(pk=template.pk).update(lost_runner_policy="fail")
    template.refresh_from_db()
    task = run_template(template=template, by=cast.operator, now=timezone.now())
    Runner.objects.filter(pk=runner.pk).update(last_heartbeat_at=timezone.now())
    claimed = timezone.now() + 2 * SILENCE
    claim(task, runner, now=claimed)
    assert mark_silent(now=claimed + A_MOMENT, after=SILENCE) == 0
    stale = Task.objects.get(pk=task.pk)
    assert not stale.mark_unreachable(now=claimed, silent_since=claimed - SILENCE)
    assert mark_silent(now=claimed + SILENCE + A_MOMENT, after=SILENCE) == 1


# Claims


@pytest.mark.django_db
def test_the_claim_carries_lease_and_steps(
    template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    steps = [{"signal": "TERM", "grace_seconds": 9}]
    task = retried(template, runner, cast, stop_steps=steps)
    job = job_of(task)
    assert (job.lease_seconds, job.is_fenced) == (settings.FORGE_LEASE_SECONDS, True)
    assert [(step.signal, step.grace_seconds) for step in job.stop_steps] == [("TERM", 9.0)]


@pytest.mark.django_db
def test_a_worker_that_keeps_no_lease_gets_nothing_that_may_be_run_again(
    template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    task = retried(template, runner, cast)
    let_pass(LEASE + SILENCE, task)
    request = ClaimRequest(task.pk, 2, "n" * 16)
    with pytest.raises(ClaimRefusedError, match="update it"):
        claim_task(runner=runner, request=request, now=timezone.now())


@pytest.mark.django_db
def test_a_claim_is_repeated_also_after_a_silence_and_in_a_later_attempt(
    template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    task = retried(template, runner, cast)
    let_pass(LEASE + SILENCE, task)
    first = claim(task, runner, nonce="second attempt")
    Task.objects.filter(pk=task.pk).update(lease_expires_at=timezone.now() - LEASE)
    now = let_pass(SILENCE + LEASE, task) if task.state == TaskState.STARTING else timezone.now()
    task.refresh_from_db()
    assert claim(task, runner, nonce="second attempt").claimed_at == first.claimed_at
    # The heartbeat may find it first, with the answer to the claim still outstanding.
    task.mark_unreachable(now=now)
    beat(runner, task, now=now)
    assert claim(task, runner, nonce="second attempt").attempt == 2
    with pytest.raises(ClaimRefusedError):
        claim(task, runner, nonce="another nonce")


@pytest.mark.django_db
def test_a_repeated_claim_of_what_was_stopped_meanwhile_starts_nothing(
    task: Task, runner: Runner, cast: Cast
) -> None:
    claim(task, runner)
    stop_task(task=task, by=cast.operator, now=timezone.now())
    with pytest.raises(ClaimRefusedError):
        claim(task, runner)
    task.refresh_from_db()
    assert task.state == TaskState.STOPPED and task.started_at is None


@pytest.mark.django_db(transaction=True)
def test_of_two_claimants_of_a_later_attempt_one_wins(
    template: TaskTemplate, runner: Runner, other: Runner, cast: Cast
) -> None:
    task = retried(template, runner, cast)
    let_pass(LEASE + SILENCE, task)
    won = race([lambda one=one: claim(task, one, nonce=one.name * 4) for one in (runner, other)])
    task.refresh_from_db()
    assert won.count(True) == 1 and (task.state, task.attempt) == (TaskState.STARTING, 2)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("turn", range(5))
def test_a_retry_and_a_heartbeat_at_once_never_both_win(
    turn: int, template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    task = retried(template, runner, cast)
    now = timezone.now() + LEASE + SILENCE
    mark_silent(now=now, after=SILENCE)
    replies: list[HeartbeatReply] = []
    race([lambda: end_waits(now=now), lambda: replies.append(beat(runner, task, now=now))])
    task.refresh_from_db()
    is_renewed = bool(replies[0].renewed)
    assert task.attempt == (1 if is_renewed else 2)
    assert bool(replies[0].drop) != is_renewed


def race(calls: list[Any]) -> list[bool]:
    """All at once, each in a thread of its own; whether each went through."""
    went: list[bool] = []
    barrier = threading.Barrier(len(calls))

    def run(call: Any) -> None:
        barrier.wait()
        try:
            call()
            went.append(True)
        except ClaimRefusedError:
            went.append(False)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(went) == len(calls)
    return went


# Stops


@pytest.mark.django_db
def test_a_stop_of_an_unreachable_task_waits_for_its_runner(
    template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    task = task_with(template, runner, cast)
    now = let_pass(SILENCE + A_MOMENT, task)
    stop_task(task=task, by=cast.operator, now=now)
    task.refresh_from_db()
    assert task.state == TaskState.UNREACHABLE and task.stop_requested_at == now
    reply = beat(runner, task, now=now)
    task.refresh_from_db()
    assert task.state == TaskState.STOPPING
    order = reply.stop or beat(runner, task, now=now).stop
    assert order[0].reason == "Stopped by operator." and not order[0].is_forced


@pytest.mark.django_db
def test_what_was_to_be_stopped_is_not_run_again(
    template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    task = retried(template, runner, cast)
    now = let_pass(SILENCE + A_MOMENT, task)
    stop_task(task=task, by=cast.operator, now=now)
    let_pass(LEASE + SILENCE, task)
    assert (task.state, task.attempt) == (TaskState.STOPPED, 1)
    assert "Stopped by operator." in task.reason


@pytest.mark.django_db
@pytest.mark.parametrize("outcome", ["succeeded", "failed"])
@pytest.mark.parametrize("is_silent", [True, False])
def test_what_ends_by_itself_after_a_stop_was_asked_for_counts_as_stopped(
    is_silent: bool, outcome: str, template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    """Whether its runner is heard by a heartbeat first or by the report."""
    task = task_with(template, runner, cast)
    now = let_pass(SILENCE + A_MOMENT, task) if is_silent else timezone.now()
    stop_task(task=task, by=cast.operator, now=now)
    report(runner, result(task, outcome), now=now)
    task.refresh_from_db()
    assert task.state == TaskState.STOPPED
    assert task.reason == "It ended. A stop was under way: Stopped by operator."


@pytest.mark.django_db
def test_a_stop_that_never_reached_a_lost_runner_is_in_the_reason(
    template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    task = task_with(template, runner, cast, lost_runner_wait_seconds=60)
    now = let_pass(SILENCE + A_MOMENT, task)
    stop_task(task=task, by=cast.operator, now=now)
    end_waits(now=now + timedelta(seconds=60))
    task.refresh_from_db()
    assert task.state == TaskState.LOST and "did not reach it" in task.reason


@pytest.mark.django_db
def test_force_ends_the_wait_for_a_lost_runner(
    template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    task = task_with(template, runner, cast)
    now = let_pass(SILENCE + A_MOMENT, task)
    force_stop_task(task=task, by=cast.operator, now=now)
    task.refresh_from_db()
    assert task.state == TaskState.LOST
    assert "Force-stopped by operator." in task.reason
    assert "may have let it run on" in task.reason
    assert beat(runner, task, now=now).drop == (TaskRef(task.pk, 1),)


@pytest.mark.django_db
@pytest.mark.parametrize("is_stopping", [False, True])
def test_force_reaches_the_runner_with_its_next_heartbeat(
    is_stopping: bool, template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    task = task_with(template, runner, cast)
    now = timezone.now()
    if is_stopping:
        stop_task(task=task, by=cast.manager, now=now)
    force_stop_task(task=task, by=cast.operator, now=now)
    order = beat(runner, task, now=now).stop[0]
    assert order.is_forced and order.reason == "Force-stopped by operator."
    # Asked for again, it stays what it is.
    force_stop_task(task=task, by=cast.manager, now=now)
    stop_task(task=task, by=cast.manager, now=now)
    assert beat(runner, task, now=now).stop == (order,)


@pytest.mark.django_db
def test_force_stops_what_waits_at_once(task: Task, cast: Cast) -> None:
    force_stop_task(task=task, by=cast.operator, now=timezone.now())
    task.refresh_from_db()
    assert task.state == TaskState.STOPPED
    with pytest.raises(TaskFinishedError):
        force_stop_task(task=task, by=cast.operator, now=timezone.now())


@pytest.mark.django_db
def test_a_task_that_never_started_counts_as_stopped_without_a_start(
    task: Task, runner: Runner
) -> None:
    claim(task, runner)
    report(runner, result(task, "stopped"))
    task.refresh_from_db()
    assert task.state == TaskState.STOPPED and task.started_at is None


@pytest.mark.django_db
def test_a_runner_that_ends_before_its_first_heartbeat_loses_what_it_claimed(
    task: Task, runner: Runner
) -> None:
    assert runner.last_heartbeat_at is None
    claim(task, runner)
    now = timezone.now()
    assert mark_silent(now=now, after=SILENCE) == 0
    assert mark_silent(now=now + 2 * SILENCE, after=SILENCE) == 1
    task.refresh_from_db()
    assert task.state == TaskState.UNREACHABLE
