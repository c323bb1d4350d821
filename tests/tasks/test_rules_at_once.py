"""Many claimants at once: no rule of order or number is ever broken, and nobody waits for ever.

The claimants are threads with connections of their own, which pop real hints and ask for them as
workers do; the rules are then read from the rows: who held what from when to when.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import pytest
from django.db import OperationalError, connection, connections
from django.utils import timezone

from runners.broker import administrator, project_prefix
from runners.models import Runner
from runners.operations import create_runner, remove_runner
from runners.worker.protocol import ClaimRequest
from tasks.claim import claim_task
from tasks.errors import ClaimRefusedError
from tasks.lifecycle import TaskState
from tasks.models import Task, TaskTemplate
from tasks.operations import run_template, save_template
from tasks.publish import put_out_project, reconcile
from tests.cast import Cast
from tests.runners.conftest import broker_url, real

__all__ = ["broker_url", "real"]

pytestmark = pytest.mark.django_db(transaction=True)

LIMIT = 3
PATIENCE = 120.0


@dataclass
class Floor:
    """Where the claimants meet, until everything is done."""

    project: int
    done: threading.Event
    deadline: float
    seed: int

    def is_open(self) -> bool:
        return not self.done.is_set() and time.monotonic() < self.deadline


def a_runner(cast: Cast, name: str, tags: list[str], concurrency: int) -> Runner:
    now = timezone.now()
    made = create_runner(
        project=cast.project,
        name=name,
        tags=tags,
        concurrency=concurrency,
        takes_untagged=True,
        by=cast.owner,
        now=now,
    ).runner
    rows = Runner.objects.filter(pk=made.pk)
    rows.update(session="one", connected_at=now, last_heartbeat_at=now)
    return rows.get()


def a_template(cast: Cast, name: str, tags: list[str], *, parallel: bool) -> TaskTemplate:
    row = TaskTemplate(project=cast.project, name=name, script="true", allow_parallel=parallel)
    return save_template(template=row, tags=tags)


def slot(floor: Floor, runner: Runner, number: int) -> None:
    """One slot of a worker: pops hints of its queues, claims, holds a moment, finishes."""
    dice = random.Random(f"{floor.seed}-{runner.pk}-{number}")
    keys = [f"{project_prefix(floor.project)}{queue.name}" for queue in runner.queues()]
    try:
        while floor.is_open():
            dice.shuffle(keys)
            found = administrator().brpop(keys, timeout=1)
            if found is None:
                continue
            task, attempt = json.loads(found[1])["headers"]["id"].split(".")
            nonce = f"{runner.pk}-{number}-{task}-{'n' * 16}"
            _work(runner, ClaimRequest(int(task), int(attempt), nonce), dice)
    finally:
        connections.close_all()


def _work(runner: Runner, request: ClaimRequest, dice: random.Random) -> None:
    try:
        task = claim_task(runner=runner, request=request, now=timezone.now())
    except ClaimRefusedError:
        return
    time.sleep(dice.uniform(0, 0.01))
    now = timezone.now()
    task.start(runner=runner, attempt=task.attempt, now=now)
    task.finish(
        TaskState.SUCCEEDED, runner=runner, attempt=task.attempt, now=timezone.now(), reason="Done."
    )
    put_out_project(task.project_id)


def controller(floor: Floor) -> None:
    """Two run at once in the test: a lead that changes hands may overlap for a moment."""
    try:
        while floor.is_open():
            try:
                reconcile(now=timezone.now())
            except OperationalError:
                if connection.vendor != "sqlite":  # which has one writer at a time
                    raise
            floor.done.wait(0.2)
    finally:
        connections.close_all()


def play(cast: Cast, runners: Iterable[Runner], seed: int) -> None:
    """Let them all run until no task waits."""
    floor = Floor(cast.project.pk, threading.Event(), time.monotonic() + PATIENCE, seed)
    threads = [threading.Thread(target=controller, args=(floor,)) for _ in range(2)]
    for runner in runners:
        numbers = range(runner.concurrency)
        threads += [threading.Thread(target=slot, args=(floor, runner, n)) for n in numbers]
    for thread in threads:
        thread.start()
    try:
        while floor.is_open() and Task.objects.exclude(state=TaskState.SUCCEEDED).exists():
            Runner.objects.update(last_heartbeat_at=timezone.now())
            time.sleep(0.1)
    finally:
        floor.done.set()
        for thread in threads:
            thread.join(30)
    left = Task.objects.exclude(state=TaskState.SUCCEEDED).values_list("pk", "state", "hinted_at")
    assert not left, f"seed {seed}: still not done: {list(left)[:5]}"


def most_at_once(tasks: Iterable[Task]) -> int:
    """How many were held at the same moment. The claim's time is taken before the claim is
    committed, so the start, which follows it, is what counts.
    """
    events: list[tuple[datetime, int]] = []
    for task in tasks:
        assert task.started_at and task.finished_at
        events += [(task.started_at, 1), (task.finished_at, -1)]
    most = now = 0
    for _, change in sorted(events):
        now += change
        most = max(most, now)
    return most


@pytest.mark.parametrize("limit", [0, LIMIT], ids=["no limit", "project limit"])
def test_no_rule_is_broken_and_nothing_starves(limit: int, real: str, cast: Cast) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    cast.project.max_parallel_tasks = limit
    cast.project.save()
    runners = [
        a_runner(cast, "both", ["gpu", "linux"], 2),
        a_runner(cast, "plain", ["linux"], 3),
        a_runner(cast, "bare", [], 1),
    ]
    templates = [
        a_template(cast, "parallel", ["linux"], parallel=True),
        a_template(cast, "alone", ["linux"], parallel=False),
        a_template(cast, "picky", ["gpu"], parallel=True),
        a_template(cast, "zealous", [], parallel=False),
    ]
    dice = random.Random(seed)
    for _ in range(60):
        run_template(template=dice.choice(templates), by=cast.owner, now=timezone.now())
    play(cast, runners, seed)

    tasks = list(Task.objects.order_by("pk"))
    assert all(task.attempt == 1 for task in tasks)
    for template in templates:
        mine = [task for task in tasks if task.template_id == template.pk]
        if not template.allow_parallel:
            assert most_at_once(mine) == 1
            begun = [task.started_at for task in mine if task.started_at is not None]
            assert begun == sorted(begun), f"seed {seed}: {template} did not run in order"
    for runner in runners:
        mine = [task for task in tasks if task.runner_id == runner.pk]
        assert most_at_once(mine) <= runner.concurrency
    if limit:
        assert most_at_once(tasks) <= limit


def test_of_many_claims_at_once_no_more_are_won_than_the_project_may_run(
    real: str, cast: Cast
) -> None:
    cast.project.max_parallel_tasks = LIMIT
    cast.project.save()
    runner = a_runner(cast, "many", ["linux"], 20)
    template = a_template(cast, "parallel", ["linux"], parallel=True)
    tasks = [run_template(template=template, by=cast.owner, now=timezone.now()) for _ in range(12)]
    assert claimed_at_once(runner, tasks) == LIMIT


def test_a_runner_that_asks_for_more_is_given_twice_what_it_runs_and_no_more(
    real: str, cast: Cast
) -> None:
    runner = a_runner(cast, "greedy", ["linux"], 2)
    template = a_template(cast, "parallel", ["linux"], parallel=True)
    tasks = [run_template(template=template, by=cast.owner, now=timezone.now()) for _ in range(12)]
    assert claimed_at_once(runner, tasks) == 4
    waiting = Task.objects.filter(state=TaskState.QUEUED)
    reconcile(now=timezone.now())
    assert waiting.hinted().count() == 8


def claimed_at_once(runner: Runner, tasks: list[Task]) -> int:
    """How many of as many simultaneous claims were won."""
    gate = threading.Barrier(len(tasks))

    def ask(task: Task) -> None:
        gate.wait()
        try:
            request = ClaimRequest(task.pk, 1, f"{task.pk}-{'n' * 20}")
            claim_task(runner=runner, request=request, now=timezone.now())
        except ClaimRefusedError:
            pass
        finally:
            connections.close_all()

    threads = [threading.Thread(target=ask, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Task.objects.held().count()


def test_hints_that_only_a_removed_runner_could_take_block_nobody(real: str, cast: Cast) -> None:
    cast.project.max_parallel_tasks = 1
    cast.project.save()
    gone = a_runner(cast, "gone", ["gpu"], 1)
    a_runner(cast, "here", ["linux"], 1)
    picky = a_template(cast, "picky", ["gpu"], parallel=True)
    plain = a_template(cast, "plain", ["linux"], parallel=True)
    first = run_template(template=picky, by=cast.owner, now=timezone.now())
    second = run_template(template=plain, by=cast.owner, now=timezone.now())
    reconcile(now=timezone.now())
    assert list(Task.objects.hinted()) == [first]
    remove_runner(runner=gone, now=timezone.now())
    reconcile(now=timezone.now())
    assert list(Task.objects.hinted()) == [second]
    key = f"{project_prefix(cast.project.pk)}tasks"
    assert (administrator().llen(f"{key}.gpu"), administrator().llen(f"{key}.linux")) == (0, 1)


def test_of_several_queues_the_oldest_task_comes_first(real: str, cast: Cast) -> None:
    cast.project.max_parallel_tasks = 1
    cast.project.save()
    a_runner(cast, "all", ["a", "z"], 4)
    for name in ("z", "a", "z"):
        template = a_template(cast, f"{name} {random.random()}", [name], parallel=True)
        run_template(template=template, by=cast.owner, now=timezone.now())
    order = []
    runner = Runner.objects.get()
    for _ in range(3):
        reconcile(now=timezone.now())
        (task,) = Task.objects.hinted()
        order.append(task.queue.name)
        now = timezone.now()
        assert task.claim(runner=runner, attempt=1, nonce="n" * 20, now=now)
        assert task.finish(TaskState.FAILED, runner=runner, attempt=1, now=now, reason="Done.")
    assert order == ["tasks.z", "tasks.a", "tasks.z"]
