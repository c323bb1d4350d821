"""A stop meets the heartbeat with which its task's runner comes back, or the end of its silence."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.utils import timezone

from runners.models import Runner
from runners.worker.protocol import Heartbeat, TaskRef
from tasks.heartbeat import take_heartbeat
from tasks.lifecycle import TaskState
from tasks.models import Task
from tasks.operations import force_stop_task, stop_task
from tests.cast import Cast
from tests.meeting import meanwhile, once_read

pytestmark = pytest.mark.django_db(transaction=True)

SESSION = "s" * 16
ASKS_THE_RUNNER = '"stop_reason" ='
FIRST_LOOK = 'FROM "tasks_task"'
Stop = Callable[..., bool]


def come_back(task: Task, runner: Runner) -> object:
    message = Heartbeat(SESSION, (TaskRef(task.pk, 1),))
    return take_heartbeat(runner=runner, message=message, now=timezone.now())


@pytest.mark.parametrize("stop", [stop_task, force_stop_task])
def test_a_stop_is_noted_also_when_the_runner_is_heard_or_lost_at_that_moment(
    stop: Stop, running_task: Task, runner: Runner, cast: Cast
) -> None:
    row = Task.objects.get(pk=running_task.pk)
    begin, thread = meanwhile(lambda: row.mark_unreachable(now=timezone.now()))
    with once_read(FIRST_LOOK, begin):
        assert stop(task=running_task, by=cast.operator, now=timezone.now())
    thread.join()
    row.refresh_from_db()
    assert row.stop_requested_at is not None


def test_a_stop_is_noted_also_when_its_runner_comes_back_at_that_moment(
    running_task: Task, runner: Runner, cast: Cast
) -> None:
    Runner.objects.filter(pk=runner.pk).update(session=SESSION)
    runner.refresh_from_db()
    assert running_task.mark_unreachable(now=timezone.now())
    begin, thread = meanwhile(lambda: come_back(running_task, runner))
    with once_read(ASKS_THE_RUNNER, begin):
        assert stop_task(task=running_task, by=cast.operator, now=timezone.now())
    thread.join()
    come_back(running_task, runner)
    running_task.refresh_from_db()
    assert running_task.state == TaskState.STOPPING
