"""A task whose first runner was lost waits from then on: what it ran before is no wait."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from importlib import import_module

import pytest
from django.apps import apps
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.test import Client
from django.utils import timezone

from runners.models import Runner
from tasks.attempts import begin_next_attempt
from tasks.lifecycle import TaskState
from tasks.models import Task
from tasks.operations import run_template
from tests.cast import Cast

migration = import_module("tasks.migrations.0010_fill_queued_at")


@pytest.fixture
def second(running_task: Task) -> Task:
    """Made and taken an hour ago, lost two minutes ago, and since then in the queue again."""
    now = timezone.now()
    begin, end = now - timedelta(hours=1), now - timedelta(minutes=2)
    rows = Task.objects.filter(pk=running_task.pk)
    rows.update(
        state=TaskState.UNREACHABLE, lost_runner_policy="retry", max_attempts=3,
        created_at=begin, queued_at=begin, claimed_at=begin, started_at=begin,
        unreachable_at=end, wait_ends_at=end,
    )  # fmt: skip
    task = rows.get()
    assert begin_next_attempt(
        task=task, state=TaskState.LOST, reason="Lost.", now=end, is_over=True
    )
    return rows.get()


def words(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))


def claim(task: Task, runner: Runner, at: datetime) -> None:
    assert task.claim(runner=runner, attempt=2, nonce="n" * 22, now=at)


def test_while_it_waits_again(
    cast: Cast, second: Task, runner: Runner, browser: Callable[..., Client]
) -> None:
    client = browser(cast.viewer)
    project = f"/projects/{cast.project.pk}/"
    for address in ("tasks/?part=rows", "queue/?part=live", "runners/?part=live"):
        said = words(client.get(project + address).text)
        assert re.search(r"\b2 min \d+ s", said), said
        assert "1 h 0" not in said, said
    assert "oldest 2 min" in words(client.get(f"{project}runners/").text)


def test_the_oldest_is_who_has_waited_longest_and_not_the_first_in_line(
    cast: Cast, second: Task, browser: Callable[..., Client]
) -> None:
    later = run_template(
        template=second.template, by=cast.operator, now=timezone.now() - timedelta(minutes=9)
    )
    said = words(browser(cast.viewer).get(f"/projects/{cast.project.pk}/runners/").text)
    assert re.search(rf"oldest 9 min \d\d s , #{later.pk}\b", said), said


def test_once_it_was_taken(
    cast: Cast, second: Task, runner: Runner, browser: Callable[..., Client]
) -> None:
    claim(second, runner, second.queued_at + timedelta(seconds=7))
    client = browser(cast.viewer)
    (row,) = client.get(f"/projects/{cast.project.pk}/tasks/").context["rows"]
    assert row.waited == timedelta(seconds=7)
    assert "+7 s" in words(client.get(f"/tasks/{second.pk}/").text)


def test_an_upgrade_tells_it_of_the_tasks_that_there_are(
    second: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "ROWS", 1)
    first = Task.objects.get(pk=second.pk)
    first.pk, first.attempt = None, 1
    first.save()
    nonsense = timezone.now() + timedelta(days=9)
    Task.objects.update(queued_at=nonsense)
    # What was broken off is run again.
    for _ in range(2):
        migration.tell_since_when(apps, None)
        ended = second.earlier_attempts.get().ended_at
        assert Task.objects.get(pk=second.pk).queued_at == ended
        assert Task.objects.get(pk=first.pk).queued_at == first.created_at


def test_an_upgrade_has_nothing_to_tell_where_there_are_no_tasks(db: None) -> None:
    migration.tell_since_when(apps, None)


def test_processes_of_the_version_before_add_tasks_after_the_upgrade(second: Task) -> None:
    """They know no such column: the database must."""
    begin = timezone.now() - timedelta(minutes=1)
    names = [field.column for field in Task._meta.concrete_fields]
    columns = ", ".join(f'"{name}"' for name in names if name not in ("id", "queued_at"))
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO tasks_task ({columns}) SELECT {columns} FROM tasks_task")  # noqa: S608
    (added,) = Task.objects.exclude(pk=second.pk)
    assert begin < added.queued_at < timezone.now() + timedelta(minutes=1)


def _written() -> object:
    """Where PostgreSQL keeps the tasks, and what wrote the row; none of it is told by SQLite."""
    if connection.vendor != "postgresql":
        return None
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_relation_filenode('tasks_task'), xmin::text FROM tasks_task")
        return cursor.fetchone()


@pytest.mark.django_db(transaction=True)
def test_the_upgrade_writes_no_row_while_it_keeps_others_from_the_tasks(second: Task) -> None:
    def migrate(name: str) -> None:
        MigrationExecutor(connection).migrate([("tasks", name)])

    ended = second.earlier_attempts.get().ended_at
    migrate("0008_log_lines")
    try:
        before = _written()
        migrate("0009_queued_at")
        assert _written() == before
        assert Task.objects.get().queued_at > second.created_at
    finally:
        executor = MigrationExecutor(connection)
        executor.migrate(executor.loader.graph.leaf_nodes())
    assert Task.objects.get().queued_at == ended
