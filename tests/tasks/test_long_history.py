"""What runs is found without a look at what has ended: not by the controller, a beat or a claim.

Compared is work, as in `test_long_queue`: the controller asks every second, and every runner with
each heartbeat.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from runners.models import Runner
from runners.worker.protocol import Heartbeat, TaskRef
from tasks.clocks import mend_times
from tasks.heartbeat import take_heartbeat
from tasks.lifecycle import TaskState
from tasks.models import Task, TaskTemplate
from tasks.operations import run_template
from tasks.reaping import end_waits, mark_silent
from tests.cast import Cast
from tests.tasks.test_long_queue import Work, measured

pytestmark = pytest.mark.django_db(transaction=True)

SHORT, LONG = 100, 10_000
SILENCE = timedelta(seconds=30)
NEW = 5


def end(template: TaskTemplate, runner: Runner, count: int) -> None:
    """So many tasks of `runner` have ended, each with the nonce of its claim."""
    now = timezone.now()
    Task.objects.bulk_create(
        (
            Task(
                project=template.project,
                template=template,
                queue=template.queue,
                app=template.app,
                script=template.script,
                timeout_seconds=60,
                is_exclusive=False,
                state=TaskState.SUCCEEDED,
                reason="Done.",
                runner=runner,
                nonce="n" * 22,
                created_at=now,
                queued_at=now,
                claimed_at=now,
                finished_at=now,
            )
            for _ in range(count)
        ),
        batch_size=2000,
    )
    if connection.vendor == "postgresql":  # which does so by itself, and SQLite never does
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")


def held(template: TaskTemplate, runner: Runner, cast: Cast) -> list[Task]:
    """A few that the runner runs."""
    now = timezone.now()
    rows = Runner.objects.filter(pk=runner.pk)
    rows.update(session="one", connected_at=now, last_heartbeat_at=now, concurrency=100)
    runner.refresh_from_db()
    made = []
    for _ in range(NEW):
        task = run_template(template=template, by=cast.operator, now=now)
        assert task.claim(runner=runner, attempt=1, nonce="n" * 22, now=now)
        assert task.start(runner=runner, attempt=1, now=now)
        made.append(task)
    return made


def beats(runner: Runner, tasks: list[Task]) -> None:
    message = Heartbeat("one", tuple(TaskRef(task.pk, 1) for task in tasks))
    reply = take_heartbeat(runner=runner, message=message, now=timezone.now())
    assert len(reply.renewed) == NEW


def costs(runner: Runner, tasks: list[Task]) -> dict[str, Work]:
    """What is asked over and over while nothing changes."""
    now = timezone.now()
    work: dict[str, Callable[[], object]] = {
        "who is silent": lambda: mark_silent(now=now, after=SILENCE),
        "whose wait is over": lambda: end_waits(now=now),
        "what a clock that was set has left": lambda: mend_times(
            now=now, set_by=timedelta(hours=1), elapsed=timedelta(seconds=1)
        ),
        "a heartbeat": lambda: beats(runner, tasks),
        "how much a runner holds": lambda: Task.objects.held_by(runner).count(),
        "how much a project runs": lambda: (
            Task.objects.filter(project=runner.project_id).held().count()
        ),
    }
    return {name: measured(one) for name, one in work.items()}


def test_what_runs_costs_no_more_after_years(
    template: TaskTemplate, runner: Runner, cast: Cast
) -> None:
    TaskTemplate.objects.filter(pk=template.pk).update(allow_parallel=True)
    template.refresh_from_db()
    tasks = held(template, runner, cast)
    end(template, runner, SHORT)
    few = costs(runner, tasks)
    end(template, runner, LONG - SHORT)
    many = costs(runner, tasks)
    grown = {
        name: (small.examined, many[name].examined, many[name].widest)
        for name, small in few.items()
        # Where there are few, reading all of them is no more work than a look into an index.
        if many[name].examined > small.examined + SHORT
    }
    assert not grown
