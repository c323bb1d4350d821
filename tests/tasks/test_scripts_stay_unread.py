"""Scripts are long, and what happens to every task all the time reads none of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from runners.models import Runner
from runners.worker.protocol import Heartbeat, Piece, Report, Result, TaskRef
from tasks.heartbeat import take_heartbeat
from tasks.intake import take_report
from tasks.lifecycle import TaskState
from tasks.models import Task
from tasks.operations import force_stop_task, retire_runner, stop_task
from tasks.reaping import end_waits, mark_silent
from tasks.stopping import stop_all
from tests.cast import Cast

pytestmark = pytest.mark.django_db

SESSION = "s" * 16
A_DAY = timedelta(days=1)


def heartbeat(runner: Runner, task: Task, cast: Cast) -> None:
    message = Heartbeat(SESSION, (TaskRef(task.pk, 1), TaskRef(task.pk, 2)))
    take_heartbeat(runner=runner, message=message, now=timezone.now())


def forgotten(runner: Runner, task: Task, cast: Cast) -> None:
    later = timezone.now() + A_DAY
    take_heartbeat(runner=runner, message=Heartbeat(SESSION, ()), now=later)
    task.refresh_from_db()
    assert task.state == TaskState.UNREACHABLE


def result_of(task: Task, *, is_cut_short: bool) -> Result:
    digest = hashlib.sha256(b"a line\n").hexdigest()
    return Result(task.pk, 1, "failed", 1, "It ended.", 7, digest, 0.0, is_cut_short=is_cut_short)


def the_end(runner: Runner, task: Task, cast: Cast) -> None:
    pieces, results = (Piece(task.pk, 1, 0, b"a line\n"),), (result_of(task, is_cut_short=False),)
    message = Report((), pieces, results)
    assert take_report(runner=runner, report=message, now=timezone.now()).receipts[0].is_finished


def cut_short(runner: Runner, task: Task, cast: Cast) -> None:
    pieces, results = (Piece(task.pk, 1, 0, b"a line\n"),), (result_of(task, is_cut_short=True),)
    message = Report((), pieces, results)
    take_report(runner=runner, report=message, now=timezone.now())
    task.refresh_from_db()
    assert task.attempt == 2


def silence(runner: Runner, task: Task, cast: Cast) -> None:
    later = timezone.now() + A_DAY
    assert mark_silent(now=later, after=timedelta(seconds=30)) == 1
    assert end_waits(now=later + A_DAY) == 1


def stop(runner: Runner, task: Task, cast: Cast) -> None:
    assert stop_task(task=task, by=cast.operator, now=timezone.now())
    assert force_stop_task(task=task, by=cast.operator, now=timezone.now())


def stop_of_all(runner: Runner, task: Task, cast: Cast) -> None:
    now = timezone.now()
    assert stop_all(project=cast.project, by=cast.operator, now=now, until=task.pk).running == 1


def removal(runner: Runner, task: Task, cast: Cast) -> None:
    assert retire_runner(runner=runner, by=cast.owner, now=timezone.now()) == 1


@pytest.mark.parametrize(
    "happens",
    [heartbeat, forgotten, the_end, cut_short, silence, stop, stop_of_all, removal],
)
def test_no_script_is_read_when(
    happens: Callable[[Runner, Task, Cast], None], running_task: Task, runner: Runner, cast: Cast
) -> None:
    now = timezone.now()
    Task.objects.update(lost_runner_policy="retry", max_attempts=3, lease_expires_at=now)
    Runner.objects.update(session=SESSION, last_heartbeat_at=now, connected_at=now)
    runner.refresh_from_db()
    task = Task.objects.without_scripts("template").select_related("template").get()
    with CaptureQueriesContext(connection) as queries:
        happens(runner, task, cast)
    assert not [query["sql"] for query in queries if '."script"' in query["sql"]]
