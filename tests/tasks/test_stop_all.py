"""Stop all: what waits and what runs, up to a task, whatever happens at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from django.db import connection, connections
from django.utils import timezone

from projects.audit.entry import AuditEntry, Verb
from runners.models import Runner
from tasks import stopping
from tasks.lifecycle import TERMINAL, TaskState
from tasks.models import Task, TaskTemplate
from tasks.operations import run_template, save_template
from tests.cast import Cast

STOPPED = TaskState.STOPPED


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stands still for a moment is no reason to stop in parts."""
    monkeypatch.setattr(stopping, "BUDGET_SECONDS", 60.0)


@pytest.fixture
def parallel(cast: Cast) -> TaskTemplate:
    row = TaskTemplate(project=cast.project, name="Many", script="x", allow_parallel=True)
    return save_template(template=row, tags=[])


@pytest.fixture
def queue_some(cast: Cast, parallel: TaskTemplate) -> Callable[[int], list[Task]]:
    def some(count: int) -> list[Task]:
        now = timezone.now()
        return [run_template(template=parallel, by=cast.operator, now=now) for _ in range(count)]

    return some


def claim(task: Task, runner: Runner) -> bool:
    return task.claim(runner=runner, attempt=1, nonce="n" * 22, now=timezone.now())


def stop_all(cast: Cast, until: int = 10**9, **more: bool) -> stopping.Part:
    return stopping.stop_all(
        project=cast.project, by=cast.operator, now=timezone.now(), until=until, **more
    )


def states(cast: Cast) -> list[str]:
    return list(
        Task.objects.filter(project=cast.project).order_by("pk").values_list("state", flat=True)
    )


def test_what_waits_is_stopped_and_what_runs_is_told_to(
    cast: Cast, running_task: Task, queue_some: Callable[[int], list[Task]]
) -> None:
    queue_some(3)
    plan = stopping.plan_stop_all(cast.project)
    assert (plan.waiting, plan.running) == (3, 1)
    assert stop_all(cast) == stopping.Part(waiting=3, running=1, remaining=0)
    assert states(cast) == ["stopping", "stopped", "stopped", "stopped"]
    stopped = Task.objects.filter(state=STOPPED)
    assert {row.reason for row in stopped} == {"Stopped by operator, with all that waited."}
    assert all(row.finished_at and row.log_complete for row in stopped)
    assert stop_all(cast) == stopping.Part(waiting=0, running=0, remaining=0)


def test_only_what_waits_when_told_so(
    cast: Cast, running_task: Task, queue_some: Callable[[int], list[Task]]
) -> None:
    queue_some(2)
    assert stop_all(cast, only_waiting=True) == stopping.Part(waiting=2, running=0, remaining=0)
    assert states(cast) == ["running", "stopped", "stopped"]


def test_a_single_one_is_named(cast: Cast, queue_some: Callable[[int], list[Task]]) -> None:
    (task,) = queue_some(1)
    stop_all(cast)
    entry = AuditEntry.objects.get(verb=Verb.STOPPED_ALL)
    assert entry.detail == f"One task that waited, #{task.pk}."


def test_what_was_queued_after_the_question_stays(
    cast: Cast, queue_some: Callable[[int], list[Task]]
) -> None:
    queue_some(2)
    plan = stopping.plan_stop_all(cast.project)
    queue_some(1)
    assert stop_all(cast, until=plan.until).remaining == 0
    assert states(cast) == ["stopped", "stopped", "queued"]


def test_other_projects_are_not_touched(
    cast: Cast, queue_some: Callable[[int], list[Task]]
) -> None:
    row = TaskTemplate(project=cast.outsiders_project, name="Theirs", script="x")
    theirs = run_template(
        template=save_template(template=row, tags=[]), by=cast.outsider, now=timezone.now()
    )
    queue_some(1)
    stop_all(cast)
    theirs.refresh_from_db()
    assert theirs.state == TaskState.QUEUED


def test_a_long_queue_is_stopped_part_by_part(
    cast: Cast,
    queue_some: Callable[[int], list[Task]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stopping, "BATCH", 2)
    monkeypatch.setattr(stopping, "BUDGET_SECONDS", 0.0)
    queue_some(5)
    plan = stopping.plan_stop_all(cast.project)
    left = [stop_all(cast, until=plan.until).remaining for _ in range(3)]
    assert left == [3, 1, 0]
    entries = AuditEntry.objects.filter(verb=Verb.STOPPED_ALL).order_by("pk")
    assert [entry.name for entry in entries] == ["Payments"] * 3
    first = Task.objects.order_by("pk").values_list("pk", flat=True)[0]
    assert entries[0].detail == f"2 tasks that waited, from #{first} to #{first + 1}."


def test_a_thousand_take_a_bounded_number_of_questions(
    cast: Cast, parallel: TaskTemplate, django_assert_max_num_queries: Callable[..., object]
) -> None:
    task = run_template(template=parallel, by=cast.operator, now=timezone.now())
    task.pk = None
    fields = {
        f.attname: getattr(task, f.attname) for f in Task._meta.concrete_fields if f.attname != "id"
    }
    Task.objects.bulk_create(Task(**fields) for _ in range(2 * stopping.BATCH))
    with django_assert_max_num_queries(40):  # type: ignore[attr-defined]
        assert stop_all(cast).waiting == 2 * stopping.BATCH + 1


@pytest.mark.django_db(transaction=True)
def test_claims_and_two_who_stop_all_at_once_leave_every_task_told(
    cast: Cast, runner: Runner, queue_some: Callable[[int], list[Task]]
) -> None:
    """Each task is either stopped before it began, or was claimed and is told to stop."""
    tasks = queue_some(40)
    start = threading.Barrier(4)
    failures: list[BaseException] = []

    def at_once(do: Callable[[], object]) -> threading.Thread:
        def run() -> None:
            start.wait()
            try:
                do()
            except BaseException as error:
                failures.append(error)
            finally:
                connections.close_all()

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def take(some: list[Task]) -> None:
        for task in some:
            claim(Task.objects.get(pk=task.pk), runner)

    threads = [at_once(lambda: stop_all(cast)) for _ in range(2)]
    threads += [at_once(lambda: take(tasks[::2])), at_once(lambda: take(tasks[1::2][::-1]))]
    for thread in threads:
        thread.join(120)
    assert not [error for error in failures if connection.vendor == "postgresql"], failures
    stop_all(cast)
    rows = Task.objects.filter(project=cast.project)
    for row in rows:
        assert (row.state == STOPPED and row.runner_id is None) or (
            row.state == TaskState.STOPPING and row.runner_id == runner.pk
        )
    assert not [row for row in rows if row.state in TERMINAL and not row.reason]
