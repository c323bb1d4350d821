"""Logs and results: committed once, in order, and only from the runner that holds the task."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from runners.models import Runner
from runners.worker.protocol import Overflow, Piece, Receipt, Report, Result, Started
from tasks.digests import digests
from tasks.intake import UNWATCHED_CADENCE, WATCHED_CADENCE, take_report
from tasks.lifecycle import TaskState
from tasks.log import read_log
from tasks.log_columns import GAP_MARKER_BYTES
from tasks.models import LogChunk, Task
from tests.meeting import once_read


def send(runner: Runner, *items: Started | Piece | Result | Overflow) -> Receipt:
    """One report; the receipt of its only task."""

    def of(kind: type) -> tuple[Any, ...]:
        return tuple(item for item in items if isinstance(item, kind))

    report = Report(of(Started), of(Piece), of(Result), of(Overflow))
    return take_report(runner=runner, report=report, now=timezone.now()).receipts[0]


def result(task: Task, log: bytes, *, outcome: str = "succeeded", code: int | None = 0) -> Result:
    digest = hashlib.sha256(log).hexdigest()
    return Result(task.pk, task.attempt, outcome, code, "It ended.", len(log), digest, 0.0)


def stored(task: Task) -> bytes:
    return b"".join(read_log(Task.objects.get(pk=task.pk)))


@pytest.mark.django_db
def test_pieces_in_any_order_and_overlap_give_the_log_byte_for_byte(
    running_task: Task, runner: Runner
) -> None:
    log = random.Random(1).randbytes(5000)
    committed, dice = 0, random.Random(2)
    while committed < len(log):
        start = max(0, committed + dice.randint(-300, 60))
        piece = Piece(running_task.pk, 1, start, log[start : start + dice.randint(0, 400)])
        committed = send(runner, piece).log_bytes
    assert stored(running_task) == log
    send(runner, result(running_task, log))
    running_task.refresh_from_db()
    assert running_task.log_complete and running_task.state == TaskState.SUCCEEDED


@pytest.mark.django_db
def test_a_gap_is_not_stored_and_the_sender_is_told_where_to_go_on(
    running_task: Task, runner: Runner
) -> None:
    send(runner, Piece(running_task.pk, 1, 0, b"abc"))
    assert send(runner, Piece(running_task.pk, 1, 5, b"fgh")).log_bytes == 3
    assert stored(running_task) == b"abc"


@pytest.mark.django_db
def test_a_result_waits_for_its_log(running_task: Task, runner: Runner) -> None:
    assert not send(runner, result(running_task, b"abc")).is_finished
    receipt = send(runner, Piece(running_task.pk, 1, 0, b"abc"), result(running_task, b"abc"))
    assert receipt.is_finished


@pytest.mark.django_db
def test_a_log_that_differs_from_its_checksum_is_marked(running_task: Task, runner: Runner) -> None:
    send(runner, Piece(running_task.pk, 1, 0, b"abX"), result(running_task, b"abc"))
    running_task.refresh_from_db()
    assert running_task.is_finished and not running_task.log_complete


@pytest.mark.django_db
def test_a_log_is_compared_with_what_was_stored_and_not_with_what_came_too_late(
    running_task: Task, runner: Runner
) -> None:
    """Two reports say different things of the same bytes, and both have read the row before."""
    with once_read('"tasks_task"', lambda: send(runner, Piece(running_task.pk, 1, 0, b"first"))):
        send(runner, Piece(running_task.pk, 1, 0, b"later"))
    assert stored(running_task) == b"first"
    send(runner, result(running_task, b"later"))
    running_task.refresh_from_db()
    assert running_task.is_finished and not running_task.log_complete


@pytest.mark.django_db
def test_another_runner_of_the_project_is_told_nothing_and_changes_nothing(
    running_task: Task, runner: Runner
) -> None:
    sibling = Runner.objects.create(project=runner.project, name="web-2")
    send(runner, Piece(running_task.pk, 1, 0, b"mine"))
    receipt = send(sibling, Piece(running_task.pk, 1, 4, b"his"), result(running_task, b"minehis"))
    assert receipt == Receipt(running_task.pk, 1, False, 0, False)
    running_task.refresh_from_db()
    assert stored(running_task) == b"mine" and running_task.state == TaskState.RUNNING


@pytest.mark.django_db
def test_an_older_attempt_changes_nothing(running_task: Task, runner: Runner) -> None:
    Task.objects.filter(pk=running_task.pk).update(attempt=2, lost_runner_policy="retry")
    receipt = send(runner, Piece(running_task.pk, 1, 0, b"late"))
    assert not receipt.is_held and stored(running_task) == b""


@pytest.mark.django_db
def test_a_result_twice_is_taken_once(running_task: Task, runner: Runner) -> None:
    first = send(runner, result(running_task, b""))
    again = send(runner, result(running_task, b"", outcome="failed", code=1))
    running_task.refresh_from_db()
    assert first.is_finished and again.is_finished
    assert running_task.state == TaskState.SUCCEEDED


@pytest.mark.django_db
def test_what_ends_by_itself_during_a_stop_counts_as_stopped(
    running_task: Task, runner: Runner
) -> None:
    running_task.request_stop(reason="Stopped by Ana.", now=timezone.now())
    send(runner, result(running_task, b""))
    running_task.refresh_from_db()
    assert running_task.state == TaskState.STOPPED and "Stopped by Ana." in running_task.reason


@pytest.mark.django_db
def test_a_start_never_lies_before_its_claim(task: Task, runner: Runner) -> None:
    task.claim(runner=runner, attempt=1, nonce="n" * 16, now=timezone.now())
    send(runner, Started(task.pk, 1, age_seconds=3600.0))
    task.refresh_from_db()
    assert task.state == TaskState.RUNNING and task.started_at == task.claimed_at


@pytest.mark.django_db
@pytest.mark.parametrize("late", ["start", "end", "both at once"])
def test_a_task_took_as_long_as_its_runner_measured(task: Task, runner: Runner, late: str) -> None:
    """Whichever report was on its way for longer than the 5 ms that it ran."""
    claimed = timezone.now() - timedelta(seconds=10)
    task.claim(runner=runner, attempt=1, nonce="n" * 16, now=claimed)
    started = Started(task.pk, 1, age_seconds=0.006)
    ended = replace(result(task, b""), age_seconds=0.001, run_seconds=0.005)
    first, second = {"start": (2.0, 1.0), "end": (1.0, 2.0), "both at once": (1.0, 1.0)}[late]
    for seconds, report in (
        (first, Report((started,), (), ())),
        (second, Report((started,), (), (ended,))),
    ):
        take_report(runner=runner, report=report, now=claimed + timedelta(seconds=seconds))
    task.refresh_from_db()
    assert task.started_at == claimed + timedelta(seconds=0.994)
    assert task.finished_at == claimed + timedelta(seconds=0.999)


@pytest.mark.django_db
def test_what_a_runner_measured_lies_between_the_claim_and_now(task: Task, runner: Runner) -> None:
    """Such as where Forge's clock was set meanwhile."""
    now = timezone.now()
    task.claim(runner=runner, attempt=1, nonce="n" * 16, now=now)
    later = now + timedelta(seconds=3)
    report = Report((), (), (replace(result(task, b""), run_seconds=3600.0),))
    take_report(runner=runner, report=report, now=later)
    task.refresh_from_db()
    assert (task.started_at, task.finished_at) == (now, later)


@pytest.mark.django_db
def test_runners_upload_faster_while_somebody_watches(running_task: Task, runner: Runner) -> None:
    def cadence() -> float:
        piece = Piece(running_task.pk, 1, 0, b"x")
        report = Report((), (piece,), ())
        return take_report(runner=runner, report=report, now=timezone.now()).cadence_seconds

    assert cadence() == UNWATCHED_CADENCE
    later = timezone.now() + timedelta(seconds=60)
    Task.objects.filter(pk=running_task.pk).update(watched_until=later)
    assert cadence() == WATCHED_CADENCE


@pytest.mark.django_db
def test_pieces_that_follow_each_other_become_one_row(running_task: Task, runner: Runner) -> None:
    pk = running_task.pk
    send(runner, Piece(pk, 1, 0, b"abc"), Piece(pk, 1, 3, b"def"), Piece(pk, 1, 6, b"ghi"))
    assert LogChunk.objects.filter(task=pk).count() == 1 and stored(running_task) == b"abcdefghi"
    receipt = send(runner, Piece(pk, 1, 6, b"ghi"), Piece(pk, 1, 9, b"j"), Piece(pk, 1, 11, b"l"))
    assert receipt.log_bytes == 10 and stored(running_task) == b"abcdefghij"


@pytest.mark.django_db
def test_pieces_of_several_tasks_in_one_report_go_to_their_own_logs(
    running_task: Task, runner: Runner
) -> None:
    other = Task.objects.get(pk=running_task.pk)
    other.pk, other.is_exclusive = None, False
    other.save()
    pieces = (
        Piece(other.pk, 1, 0, b"his"),
        Piece(running_task.pk, 1, 0, b"mine"),
        Piece(other.pk, 1, 3, b" too"),
    )
    reply = take_report(runner=runner, report=Report((), pieces, ()), now=timezone.now())
    assert {(one.task, one.log_bytes) for one in reply.receipts} == {
        (other.pk, 7),
        (running_task.pk, 4),
    }
    assert (stored(other), stored(running_task)) == (b"his too", b"mine")


@pytest.mark.django_db
def test_a_log_above_its_limit_is_never_called_complete(running_task: Task, runner: Runner) -> None:
    send(runner, Piece(running_task.pk, 1, 0, b"head"), Overflow(running_task.pk, 1, 4, 700))
    running_task.refresh_from_db()
    assert (running_task.log_gap_offset, running_task.written_bytes) == (4, 700)
    kept = b"head[marker]tail"
    end = replace(
        result(running_task, kept), log_written_bytes=1000, log_gap_offset=4, log_gap_bytes=992
    )
    send(runner, Piece(running_task.pk, 1, 4, kept[4:]), end)
    running_task.refresh_from_db()
    assert running_task.is_finished and not running_task.log_complete
    assert (running_task.log_gap_offset, running_task.log_gap_bytes) == (4, 992)
    assert running_task.written_bytes == 1000 and "limit" in running_task.log_problem


@pytest.mark.django_db
def test_a_log_whose_tail_joins_its_head_has_no_gap(running_task: Task, runner: Runner) -> None:
    send(runner, Piece(running_task.pk, 1, 0, b"head"), Overflow(running_task.pk, 1, 4, 8))
    send(runner, Piece(running_task.pk, 1, 4, b"tail"), result(running_task, b"headtail"))
    running_task.refresh_from_db()
    assert running_task.log_complete and running_task.log_gap_offset is None


@pytest.mark.django_db
def test_what_the_runner_could_not_keep_is_said(running_task: Task, runner: Runner) -> None:
    problem = "What came last could not be kept on the runner's disk: No space left on device."
    send(runner, replace(result(running_task, b""), log_problem=problem))
    running_task.refresh_from_db()
    assert not running_task.log_complete and running_task.log_lack == problem


@pytest.mark.django_db
def test_a_log_whose_rest_cannot_be_read_ends_its_task_and_says_why(
    running_task: Task, runner: Runner
) -> None:
    problem = "The rest of it cannot be read on the runner's disk: Input/output error."
    whole = replace(result(running_task, b"abcdef"), log_bytes=3, log_problem=problem)
    sent = Piece(running_task.pk, 1, 0, b"abc")
    assert send(runner, sent, replace(whole, log_written_bytes=6)).is_finished
    running_task.refresh_from_db()
    assert not running_task.log_complete and running_task.log_lack == problem
    assert (running_task.log_bytes, running_task.written_bytes) == (3, 6)


@pytest.mark.django_db
def test_a_runner_that_ignores_the_limit_fills_no_disk(
    task: Task, runner: Runner, settings: Any
) -> None:
    settings.FORGE_LOG_HEAD_BYTES, settings.FORGE_LOG_TAIL_BYTES = 100, 50
    task.claim(runner=runner, attempt=1, nonce="n" * 16, now=timezone.now())
    # The limit of the claim holds, whatever the settings say by now.
    settings.FORGE_LOG_HEAD_BYTES = 10**9
    limit = 150 + GAP_MARKER_BYTES
    for start in range(0, 5000, 500):
        send(runner, Piece(task.pk, 1, start, b"x" * 500))
    assert len(stored(task)) == limit


@pytest.mark.django_db
def test_a_digest_that_was_remembered_of_another_database_costs_no_log_its_word(
    running_task: Task, runner: Runner
) -> None:
    """After a restore the same number may be another task, whose log came by another process."""
    send(runner, Piece(running_task.pk, 1, 0, b"abc"))
    LogChunk.objects.filter(task=running_task).update(data=b"xyz")
    send(runner, result(running_task, b"xyz"))
    running_task.refresh_from_db()
    assert running_task.log_complete


@pytest.mark.django_db
def test_a_log_that_other_processes_took_in_is_read_for_its_digest(
    running_task: Task, runner: Runner
) -> None:
    send(runner, Piece(running_task.pk, 1, 0, b"abc"))
    digests.forget(running_task)
    send(runner, Piece(running_task.pk, 1, 3, b"def"), result(running_task, b"abcdef"))
    running_task.refresh_from_db()
    assert running_task.log_complete


@pytest.mark.django_db
def test_a_log_of_many_small_rows_is_read_in_few_queries(
    running_task: Task, runner: Runner, django_assert_max_num_queries: Any
) -> None:
    for number in range(300):
        send(runner, Piece(running_task.pk, 1, number * 10, b"%09d\n" % number))
    task = Task.objects.get(pk=running_task.pk)
    with django_assert_max_num_queries(4):
        assert b"".join(read_log(task)) == b"".join(b"%09d\n" % number for number in range(300))
    assert b"".join(read_log(task, offset=15, limit=20)) == b"0001\n000000002\n00000"


@pytest.mark.django_db
def test_however_much_a_report_names_it_is_looked_up_at_once(
    task: Task, runner: Runner, django_assert_max_num_queries: Any
) -> None:
    """One token must not keep the database from serving everybody else."""
    strangers = tuple(
        result(Task(pk=number, attempt=attempt), b"")
        for number in range(10**6, 10**6 + 100)
        for attempt in (1, 2, 3)
    )
    report = Report((), (), (*strangers, result(task, b"")), ())
    with django_assert_max_num_queries(4):
        receipts = take_report(runner=runner, report=report, now=timezone.now()).receipts
    assert len(receipts) == 301 and not any(one.is_held for one in receipts)


@pytest.mark.django_db
def test_nobody_learns_whether_a_task_of_others_is_watched(task: Task, runner: Runner) -> None:
    Task.objects.filter(pk=task.pk).update(watched_until=timezone.now() + timedelta(minutes=1))
    report = Report((), (), (result(task, b""),), ())
    reply = take_report(runner=runner, report=report, now=timezone.now())
    assert reply.cadence_seconds == UNWATCHED_CADENCE


@pytest.mark.django_db
def test_a_gap_behind_the_end_of_the_log_is_none(running_task: Task, runner: Runner) -> None:
    """A power cut has taken the end of the head, and the disk had no room for what stands in it."""
    why = "A part of it is missing on the runner's disk."
    send(runner, Piece(running_task.pk, 1, 0, b"abc"))
    told = replace(
        result(running_task, b"abc"),
        log_written_bytes=1000,
        log_gap_offset=500,
        log_gap_bytes=400,
        log_problem=why,
    )
    assert send(runner, told).is_finished
    running_task.refresh_from_db()
    assert (running_task.log_gap_offset, running_task.log_gap_bytes) == (None, 0)
    assert (running_task.written_bytes, running_task.log_problem) == (1000, why)
    assert not running_task.log_complete
