"""The state machine: what the table says, the rows do, and nothing else."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from runners.models import Runner
from tasks.lifecycle import FOLLOWERS, HELD, TERMINAL, TaskState, predecessors
from tasks.models import Task
from tasks.policies import LostRunnerPolicy

S = TaskState
# Nothing asks for approval yet, so no method leads into this state or from it into `queued`.
WITHOUT_METHOD = {S.AWAITING_APPROVAL}


def put_into(task: Task, state: TaskState, runner: Runner, now: datetime) -> Task:
    """The same task, in any state, with what the constraints ask for; its lease has ended."""
    changes: dict[str, object] = {"state": state}
    if state in HELD or state in TERMINAL:
        changes |= {"runner": runner, "nonce": "n" * 16, "claimed_at": now}
        changes |= {"lease_expires_at": now - timedelta(hours=1)}
    if state == S.UNREACHABLE:
        changes |= {"unreachable_at": now, "wait_ends_at": now}
    if state in TERMINAL:
        changes |= {"finished_at": now, "reason": "It ended."}
    changes |= {"lost_runner_policy": LostRunnerPolicy.RETRY}
    Task.objects.filter(pk=task.pk).update(**changes)
    task.refresh_from_db()
    return task


def attempt(task: Task, to: TaskState, runner: Runner, now: datetime) -> bool:
    """The model method that enters `to`."""
    fence: dict[str, Any] = {"runner": runner, "attempt": task.attempt}
    if to == S.QUEUED:
        return task.retry(attempt=task.attempt, now=now, is_over=False)
    if to == S.STARTING:
        return task.claim(nonce="m" * 16, now=now, **fence)
    if to == S.STOPPING and task.state == S.UNREACHABLE:
        assert task.note_stop(reason="Stopped.", now=now)
        return task.come_back(**fence)
    if to == S.STOPPING:
        return task.request_stop(reason="Stopped.", now=now)
    if to == S.UNREACHABLE:
        return task.mark_unreachable(now=now)
    if to == S.LOST:
        return task.lose(reason="Gone.", now=now)
    if to == S.RUNNING and task.state == S.UNREACHABLE:
        return task.come_back(**fence)
    if to == S.RUNNING:
        return task.start(now=now, **fence)
    if to == S.STOPPED and task.state in (S.QUEUED, S.AWAITING_APPROVAL):
        return task.stop_before_start(reason="Stopped.", now=now)
    return task.finish(to, now=now, reason="It ended.", **fence)


@pytest.mark.django_db
@pytest.mark.parametrize("before", list(S))
@pytest.mark.parametrize("after", [state for state in S if state not in WITHOUT_METHOD])
def test_a_task_moves_only_as_the_table_says(
    before: TaskState, after: TaskState, task: Task, runner: Runner
) -> None:
    now = timezone.now()
    task = put_into(task, before, runner, now)
    moved = attempt(task, after, runner, now)
    task.refresh_from_db()
    is_allowed = after in FOLLOWERS[before] and before not in WITHOUT_METHOD
    assert moved == (is_allowed or (before, after) == (S.AWAITING_APPROVAL, S.STOPPED))
    assert task.state == (after if moved else before)


@pytest.mark.django_db
@pytest.mark.parametrize("before", list(S))
def test_an_end_of_the_lease_stops_only_what_is_unreachable(
    before: TaskState, task: Task, runner: Runner
) -> None:
    now = timezone.now()
    task = put_into(task, before, runner, now)
    assert task.stop_unreachable(reason="Stopped.", now=now) == (before == S.UNREACHABLE)


@pytest.mark.django_db
@pytest.mark.parametrize("before", list(S))
def test_wishes_are_noted_only_where_they_mean_something(
    before: TaskState, task: Task, runner: Runner
) -> None:
    now = timezone.now()
    task = put_into(task, before, runner, now)
    assert task.note_stop(reason="Stopped.", now=now) == (before == S.UNREACHABLE)
    assert task.force_stop(reason="Forced.", now=now) == (before == S.STOPPING)
    task.refresh_from_db()
    assert task.state == before


def test_every_state_but_the_terminal_ones_leads_to_an_end() -> None:
    for state in set(S) - TERMINAL:
        seen, todo = set(), {state}
        while todo:
            here = todo.pop()
            seen.add(here)
            todo |= FOLLOWERS[here] - seen
        assert seen & TERMINAL


def test_nothing_follows_a_terminal_state() -> None:
    assert all(before not in TERMINAL for state in S for before in predecessors(state))


@pytest.mark.django_db
def test_another_runner_or_attempt_cannot_end_a_task(running_task: Task, runner: Runner) -> None:
    other = Runner.objects.create(project=runner.project, name="web-2")
    now = timezone.now()
    assert not running_task.finish(S.SUCCEEDED, runner=other, attempt=1, now=now, reason="x")
    assert not running_task.finish(S.SUCCEEDED, runner=runner, attempt=2, now=now, reason="x")
    assert running_task.finish(S.SUCCEEDED, runner=runner, attempt=1, now=now, reason="Done.")


@pytest.mark.django_db
@pytest.mark.parametrize(
    "wrong",
    [
        {"state": "somewhere"},
        {"state": S.RUNNING, "runner": None},
        {"lease_expires_at": None},
        {"state": S.UNREACHABLE, "unreachable_at": None},
        {"state": S.SUCCEEDED, "finished_at": None},
        {"state": S.SUCCEEDED, "reason": ""},
        {"finished_at": timezone.now()},
        {"lost_runner_policy": "hope"},
        {"attempt": 2},
        {"attempt": 4, "lost_runner_policy": "retry", "max_attempts": 3},
    ],
)
def test_the_database_refuses_what_must_never_be_true(
    wrong: dict[str, object], running_task: Task
) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Task.objects.filter(pk=running_task.pk).update(**wrong)


@pytest.mark.django_db
def test_two_tasks_of_an_exclusive_template_are_never_held_at_once(
    running_task: Task, task: Task, runner: Runner
) -> None:
    second = Task.objects.get(pk=running_task.pk)
    second.pk = None
    second.state, second.runner, second.claimed_at, second.nonce = S.QUEUED, None, None, ""
    second.save(force_insert=True)
    with pytest.raises(IntegrityError), transaction.atomic():
        second.claim(runner=runner, attempt=1, nonce="x" * 16, now=timezone.now())


@pytest.mark.django_db
def test_what_a_runner_says_of_its_attempt_stops_no_later_one(running_task: Task) -> None:
    now = timezone.now()
    assert not running_task.request_stop(reason="Late.", now=now, attempt=2)
    assert running_task.request_stop(reason="In time.", now=now, attempt=1)
