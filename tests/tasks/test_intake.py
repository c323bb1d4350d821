"""Logs and results: committed once, in order, and only from the runner that holds the task."""

from __future__ import annotations

import hashlib
import random
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from runners.models import Runner
from runners.worker.protocol import Piece, Receipt, Report, Result, Started
from tasks.intake import UNWATCHED_CADENCE, WATCHED_CADENCE, take_report
from tasks.lifecycle import TaskState
from tasks.log import read_log
from tasks.models import Task

SESSION = "s" * 16


def send(runner: Runner, *items: Started | Piece | Result) -> Receipt:
    """One report; the receipt of its only task."""

    def of(kind: type) -> tuple[Any, ...]:
        return tuple(item for item in items if isinstance(item, kind))

    report = Report(SESSION, of(Started), of(Piece), of(Result))
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
def test_runners_upload_faster_while_somebody_watches(running_task: Task, runner: Runner) -> None:
    def cadence() -> float:
        piece = Piece(running_task.pk, 1, 0, b"x")
        report = Report(SESSION, (), (piece,), ())
        return take_report(runner=runner, report=report, now=timezone.now()).cadence_seconds

    assert cadence() == UNWATCHED_CADENCE
    later = timezone.now() + timedelta(seconds=60)
    Task.objects.filter(pk=running_task.pk).update(watched_until=later)
    assert cadence() == WATCHED_CADENCE
