"""What the controller remembers of who may speak of which task and as which node."""

from __future__ import annotations

from typing import Any

import pytest

from forge.controller import owners
from forge.controller.owners import Nodes, TaskOwners
from runners.events import read_hint_id
from runners.models import Runner
from tasks.models import Task
from tests.cast import Cast


def test_a_task_is_its_own_projects_and_nobody_elses(task: Task, cast: Cast) -> None:
    known = TaskOwners()
    both = (cast.project.pk, cast.outsiders_project.pk)
    known.learn({project: {(task.pk, 1), (task.pk, 2), (10**17, 1)} for project in both})
    assert known.know(cast.project.pk, (task.pk, 1))
    assert not known.know(cast.outsiders_project.pk, (task.pk, 1))
    assert not known.know(cast.project.pk, (task.pk, 2))
    assert not known.know(cast.project.pk, (10**17, 1))


def test_one_query_answers_for_a_batch_and_none_for_what_is_known_or_known_to_be_absent(
    task: Task, cast: Cast, django_assert_num_queries: Any
) -> None:
    known = TaskOwners()
    batch = {
        cast.project.pk: {(task.pk, 1), *((number, 1) for number in range(10**9, 10**9 + 50))},
        cast.outsiders_project.pk: {(task.pk, 1), (10**10, 1)},
    }
    with django_assert_num_queries(1):
        assert known.learn(batch)
    with django_assert_num_queries(0):
        assert not known.learn(batch)
    assert known.know(cast.project.pk, (task.pk, 1))


def test_a_new_attempt_is_found_when_it_is_spoken_of(task: Task, cast: Cast) -> None:
    known = TaskOwners()
    known.learn({cast.project.pk: {(task.pk, 1)}})
    Task.objects.filter(pk=task.pk).update(attempt=2, lost_runner_policy="retry")
    known.learn({cast.project.pk: {(task.pk, 2)}})
    assert known.know(cast.project.pk, (task.pk, 2))


def test_a_row_that_comes_later_is_found_later(
    task: Task, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owners, "ABSENT_SECONDS", 0.0)
    known = TaskOwners()
    early = (task.pk, 3)
    known.learn({cast.project.pk: {early}})
    assert not known.know(cast.project.pk, early)
    Task.objects.filter(pk=task.pk).update(attempt=3, lost_runner_policy="retry")
    known.learn({cast.project.pk: {early}})
    assert known.know(cast.project.pk, early)


def test_one_project_that_speaks_of_thousands_crowds_nobody_out(task: Task, cast: Cast) -> None:
    known = TaskOwners()
    flood = {(number, 1) for number in range(10**9, 10**9 + 5000)}
    known.learn({cast.outsiders_project.pk: flood, cast.project.pk: {(task.pk, 1)}})
    assert known.know(cast.project.pk, (task.pk, 1))


def test_memory_is_bounded(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "MAXIMUM_TASKS", 30)
    known = TaskOwners()
    for start in range(10**9, 10**9 + 500, 50):
        known.learn({cast.project.pk: {(number, 1) for number in range(start, start + 50)}})
    assert len(known._absent) == 30


def test_a_new_runner_is_known_as_soon_as_it_speaks(
    runner: Runner, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owners, "UNKNOWN_NODE_SECONDS", 0.0)
    nodes = Nodes()
    assert nodes.know(cast.project.pk, runner.node_name)
    assert not nodes.know(cast.outsiders_project.pk, runner.node_name)
    later = Runner.objects.create(project=cast.project, name="web-2")
    assert nodes.know(cast.project.pk, later.node_name)


@pytest.mark.parametrize(
    "given", ["0.1", "1.0", "1", "1.1.1", "-1.1", "１.1", "1.1\n", 7, None, {}]
)
def test_what_is_no_id_of_an_attempt_is_none(given: object) -> None:
    assert read_hint_id(given) is None


def test_an_id_of_an_attempt_is_read() -> None:
    assert read_hint_id("48213.2") == (48213, 2)
