"""A task costs no more when 100,000 wait than when 100 do: not the controller, not a page.

What is compared is work, not time: rows that PostgreSQL examines, steps of SQLite's machine. The
times are printed beside each other.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from runners.broker import administrator, project_prefix
from runners.models import Runner
from runners.worker.protocol import ClaimRequest
from tasks.claim import claim_task
from tasks.lifecycle import TaskState
from tasks.models import Task, TaskTemplate
from tasks.operations import save_template
from tasks.publish import MAXIMUM_HINTS, put_out_project, reconcile
from tasks.waiting import explain
from tests.cast import Cast
from tests.runners.conftest import broker_url, real

__all__ = ["broker_url", "real"]

pytestmark = pytest.mark.django_db(transaction=True)

SHORT = 100
LONG = 100_000 if os.environ.get("FORGE_LONG") else 10_000
# Of the same work done in both, how much more may be counted: plans differ a little.
SLACK = 1.5
STEPS = 100


@dataclass
class Work:
    """What one piece of work cost."""

    queries: int = 0
    examined: int = 0
    seconds: float = 0.0
    widest: str = ""
    statements: list[tuple[str, Any]] = field(default_factory=list)


@contextmanager
def watched() -> Iterator[Work]:
    """Counts queries, and how much the database had to look at for those that read."""
    work = Work()

    def note(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        work.queries += 1
        if sql.startswith("SELECT"):
            work.statements.append((sql, params))
        return execute(sql, params, many, context)

    begun = time.perf_counter()
    with connection.execute_wrapper(note):
        yield work
    work.seconds = time.perf_counter() - begun
    if connection.vendor == "postgresql":
        _ask_postgres(work)


def _ask_postgres(work: Work) -> None:
    """Rows that each statement's scans examined: what they gave and what they threw away."""
    widest = 0
    for sql, params in work.statements:
        if "FOR UPDATE" in sql or "FOR NO KEY" in sql:
            continue
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", params)
            (found,) = cursor.fetchone() or ([],)
        plan = found if isinstance(found, list) else json.loads(found)
        rows = _examined(plan[0]["Plan"])
        work.examined += rows
        if rows > widest:
            widest, work.widest = rows, f"{rows} rows: {sql[:300]}"


def _examined(plan: dict[str, Any]) -> int:
    below = sum(_examined(one) for one in plan.get("Plans", ()))
    if "Relation Name" not in plan and "Index Name" not in plan:
        return below
    removed = plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
    return below + int((plan["Actual Rows"] + removed) * plan["Actual Loops"])


def steps_of(work: Callable[[], object]) -> int:
    """How many hundreds of steps SQLite's machine took."""
    count = 0

    def tick() -> int:
        nonlocal count
        count += 1
        return 0

    connection.ensure_connection()
    connection.connection.set_progress_handler(tick, STEPS)
    try:
        work()
    finally:
        connection.connection.set_progress_handler(None, 0)
    return count


def measured(work: Callable[[], object]) -> Work:
    with watched() as cost:
        if connection.vendor == "sqlite":
            cost.examined = steps_of(work)
        else:
            work()
    return cost


@pytest.fixture
def templates(cast: Cast, runner: Runner) -> list[TaskTemplate]:
    """Two that may run beside themselves and two that may not, with the same tags."""
    now = timezone.now()
    rows = Runner.objects.filter(pk=runner.pk)
    rows.update(session="one", connected_at=now, last_heartbeat_at=now, concurrency=100)
    made = []
    for number in range(4):
        row = TaskTemplate(
            project=cast.project, name=f"T{number}", script="true", allow_parallel=number < 2
        )
        made.append(save_template(template=row, tags=["linux"]))
    return made


def fill(templates: list[TaskTemplate], count: int) -> None:
    """So many wait: half must run alone, and the first half of the line are all of those."""
    now = timezone.now()
    parallel, alone = templates[:2], templates[2:]
    order = [alone[n % 2] for n in range(count // 2)] + [parallel[n % 2] for n in range(count // 2)]
    Task.objects.bulk_create(
        (
            Task(
                project=one.project,
                template=one,
                queue=one.queue,
                app=one.app,
                script=one.script,
                timeout_seconds=60,
                is_exclusive=not one.allow_parallel,
                created_at=now,
                queued_at=now,
            )
            for one in order
        ),
        batch_size=2000,
    )
    if connection.vendor == "postgresql":  # which does so by itself, and SQLite never does
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")


def claimed_and_finished(runner: Runner) -> None:
    """One task's whole cost to the server's rows. Its hint is popped first, as a worker would."""
    now = timezone.now()
    pk, attempt = Task.objects.hinted().order_by("pk").values_list("pk", "attempt")[0]
    assert administrator().rpop(f"{project_prefix(runner.project_id)}tasks.linux")
    request = ClaimRequest(pk, attempt, "n" * 22)
    task = claim_task(runner=runner, request=request, now=now)
    assert task.finish(TaskState.FAILED, runner=runner, attempt=attempt, now=now, reason="Done.")
    put_out_project(task.project_id, now=now)


def costs(runner: Runner) -> dict[str, Work]:
    """A round of the controller while nothing changes, a task from claim to end, a page."""
    # Filling the queue may take longer than a runner may be silent.
    Runner.objects.filter(pk=runner.pk).update(last_heartbeat_at=timezone.now())
    reconcile(now=timezone.now())
    last = Task.objects.order_by("pk").last()
    assert last is not None
    return {
        "controller, one round": measured(lambda: reconcile(now=timezone.now())),
        "claim, end, next hint": measured(lambda: claimed_and_finished(runner)),
        "why the last one waits": measured(lambda: explain(last, timezone.now())),
    }


@pytest.mark.parametrize("limit", [0, 50], ids=["no limit", "project limit"])
def test_the_cost_does_not_grow_with_the_queue(
    limit: int,
    real: str,
    runner: Runner,
    templates: list[TaskTemplate],
    cast: Cast,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cast.project.max_parallel_tasks = limit
    cast.project.save()
    fill(templates, SHORT)
    few = costs(runner)
    fill(templates, LONG - SHORT)
    many = costs(runner)
    unit = "rows" if connection.vendor == "postgresql" else f"{STEPS} steps"
    with capsys.disabled():
        print(f"\n{connection.vendor}, limit {limit or 'none'}: {SHORT:,} waiting | {LONG:,}")
        for name, small in few.items():
            large = many[name]
            print(
                f"  {name:24} {small.queries:3} queries {small.examined:6} {unit} "
                f"{small.seconds * 1000:7.1f} ms | {large.queries:3} queries "
                f"{large.examined:6} {unit} {large.seconds * 1000:7.1f} ms"
            )
    for name, small in few.items():
        large = many[name]
        # What goes out in one case and finds no room in the other is one statement more.
        assert large.queries <= small.queries + 2, name
        # Up to 1,000 that are ahead are counted for the sentence, and no more.
        allowance = 1_100 if name.startswith("why") else 200
        assert large.examined <= small.examined * SLACK + allowance, large.widest
    hinted = Task.objects.hinted().count()
    assert 0 < hinted <= (limit or MAXIMUM_HINTS)
