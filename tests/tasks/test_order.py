"""First in first out, also where a hint was handed back and others lie in the queue."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from django.utils import timezone

from runners.broker import administrator, project_prefix
from runners.models import Runner
from runners.operations import create_runner, pause_runner, resume_runner
from runners.worker.protocol import ClaimRequest
from tasks.claim import claim_task, hand_backs
from tasks.errors import ClaimRefusedError
from tasks.lifecycle import TaskState
from tasks.models import Task, TaskTemplate
from tasks.operations import run_template
from tasks.publish import MUCH, put_out_project, reconcile
from tests.cast import Cast
from tests.runners.conftest import broker_url, real

__all__ = ["broker_url", "real"]

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def nothing_was_handed_back_before() -> None:
    """By a runner of the same number, in another test of this process."""
    hand_backs.forget()


@pytest.fixture
def worker(real: str, runner: Runner) -> Runner:
    now = timezone.now()
    rows = Runner.objects.filter(pk=runner.pk)
    rows.update(session="one", connected_at=now, last_heartbeat_at=now)
    return rows.get()


@pytest.fixture
def line(worker: Runner, cast: Cast, template: TaskTemplate) -> list[int]:
    """Six that wait, with their hints out."""
    TaskTemplate.objects.filter(pk=template.pk).update(allow_parallel=True)
    template.refresh_from_db()
    now = timezone.now()
    return [run_template(template=template, by=cast.owner, now=now).pk for _ in range(6)]


def key_of(worker: Runner) -> str:
    return f"{project_prefix(worker.project_id)}tasks.linux"


def popped(worker: Runner) -> ClaimRequest | None:
    raw = administrator().rpop(key_of(worker))
    if raw is None:
        return None
    assert isinstance(raw, bytes)
    task, attempt = json.loads(raw)["headers"]["id"].split(".")
    return ClaimRequest(int(task), int(attempt), f"{task}-{'n' * 16}")


def claimed(worker: Runner, request: ClaimRequest | None) -> int | None:
    """Its number, if it is given to the worker and runs to its end."""
    if request is None:
        return None
    now = timezone.now()
    try:
        task = claim_task(runner=worker, request=request, now=now)
    except ClaimRefusedError:
        return None
    attempt = task.attempt
    assert task.finish(TaskState.FAILED, runner=worker, attempt=attempt, now=now, reason="Done.")
    return task.pk


def started(worker: Runner) -> list[int]:
    """All that can be had without another look of the controller's, in this order."""
    found = []
    while request := popped(worker):
        if pk := claimed(worker, request):
            found.append(pk)
    return found


def test_what_a_paused_runner_handed_back_starts_first(
    worker: Runner, line: list[int], cast: Cast
) -> None:
    """Paused and resumed within the moment between a hint and its claim; the others are out."""
    now = timezone.now()
    request = popped(worker)
    pause_runner(runner=worker, reason="Update", until=None, by=cast.owner, now=now)
    assert claimed(worker, request) is None
    resume_runner(runner=worker, by=cast.owner, now=now)
    assert Task.objects.to_hint().get().pk == line[0]
    assert started(worker) == line


def test_what_a_worker_popped_and_does_not_take_is_put_out_at_once_and_starts_first(
    worker: Runner, line: list[int]
) -> None:
    request = popped(worker)
    assert request is not None
    assert claimed(worker, replace(request, is_draining=True)) is None
    assert Task.objects.hinted().count() == len(line)
    assert started(worker) == line


def test_what_is_handed_back_without_having_been_popped_is_not_doubled(
    worker: Runner, line: list[int], cast: Cast
) -> None:
    """A token alone is enough to say so, over and over."""
    for number in range(50):
        request = ClaimRequest(line[0], 1, f"{number}-{'n' * 16}", is_draining=True)
        assert claimed(worker, request) is None
    assert administrator().llen(key_of(worker)) == len(line)
    foreign = create_runner(
        project=cast.project, name="gpu-1", tags=["gpu"], concurrency=1, takes_untagged=False,
        by=cast.owner, now=timezone.now(),
    ).runner  # fmt: skip
    assert popped(worker) is not None
    request = ClaimRequest(line[0], 1, "n" * 16, is_draining=True, session="s" * 16)
    assert claimed(foreign, request) is None
    assert Task.objects.hinted().count() == len(line)
    assert administrator().llen(key_of(worker)) == len(line) - 1


def test_more_than_a_few_hints_in_a_second_are_not_handed_back_at_once(
    worker: Runner, line: list[int]
) -> None:
    handed_back = 0
    while (request := popped(worker)) is not None:
        assert claimed(worker, replace(request, is_draining=True)) is None
        handed_back += 1
        assert handed_back < 60, "it has no end"


@pytest.mark.parametrize("surplus", [30, 1200])
def test_hints_too_many_go_and_each_task_keeps_one(
    surplus: int, worker: Runner, line: list[int]
) -> None:
    first = administrator().lindex(key_of(worker), -1)
    assert isinstance(first, bytes)
    for number in range(surplus):
        administrator().lpush(key_of(worker), first.replace(b'"hostname"', b'"h%d"' % number))
    administrator().rpush(key_of(worker), first.replace(f"{line[0]}.1".encode(), b"99999.1"))
    reconcile(now=timezone.now())
    if surplus > MUCH:
        reconcile(now=timezone.now())
    assert administrator().llen(key_of(worker)) == len(line)
    assert started(worker) == line


def test_what_is_to_run_again_is_put_before_those_that_came_later(
    worker: Runner, line: list[int]
) -> None:
    """Also between them, and what is no hint does not hold it up."""
    taken = [popped(worker) for _ in range(3)]
    assert all(taken)
    Task.objects.filter(pk__in=(line[0], line[2])).update(hinted_at=None)
    administrator().rpush(key_of(worker), b"no hint", b'{"headers": {"id": "x"}}')
    put_out_project(worker.project_id)
    administrator().rpop(key_of(worker), 2)
    assert started(worker) == [line[0], *line[2:]]


def test_what_was_lost_on_its_way_is_put_out_in_its_place(worker: Runner, line: list[int]) -> None:
    assert popped(worker) and popped(worker)
    Task.objects.update(hinted_at=timezone.now() - timedelta(seconds=60))
    reconcile(now=timezone.now())
    assert started(worker) == line
