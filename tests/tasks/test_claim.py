"""Claims: one runner gets the task, and only one that may have it."""

from __future__ import annotations

import threading

import pytest
from django.db import connections
from django.utils import timezone

from projects.models import Project
from runners.models import Runner
from runners.operations import create_runner
from runners.worker.protocol import ClaimRequest
from tasks.claim import claim_task, job_of
from tasks.errors import ClaimRefusedError, UndeliverableError
from tasks.lifecycle import TaskState
from tasks.models import Task, TaskTemplate
from tasks.operations import run_template
from tests.cast import Cast


def ask(task: Task, runner: Runner, *, attempt: int = 1, nonce: str = "n" * 16) -> Task:
    request = ClaimRequest(task=task.pk, attempt=attempt, nonce=nonce)
    return claim_task(runner=runner, request=request, now=timezone.now())


@pytest.mark.django_db
def test_the_winner_receives_what_the_template_said(task: Task, runner: Runner) -> None:
    claimed = ask(task, runner)
    job = job_of(claimed)
    assert claimed.state == TaskState.STARTING
    assert (job.script, job.app, job.task) == ("systemctl restart app\n", "bash", task.pk)


@pytest.mark.django_db
def test_the_same_nonce_gets_the_same_answer_again(task: Task, runner: Runner) -> None:
    first = ask(task, runner)
    assert ask(task, runner).claimed_at == first.claimed_at


@pytest.mark.django_db
def test_a_worker_that_drains_gets_nothing_new_and_again_what_it_was_given(
    task: Task, runner: Runner
) -> None:
    request = ClaimRequest(task=task.pk, attempt=1, nonce="n" * 16, is_draining=True)
    with pytest.raises(ClaimRefusedError, match="web-1 is shutting down"):
        claim_task(runner=runner, request=request, now=timezone.now())
    task.refresh_from_db()
    assert (task.state, task.hinted_at) == (TaskState.QUEUED, None)
    given = ask(task, runner)
    again = claim_task(runner=runner, request=request, now=timezone.now())
    assert again.claimed_at == given.claimed_at


@pytest.mark.django_db
def test_the_same_nonce_gets_it_also_from_a_runner_that_was_out_of_reach(
    task: Task, runner: Runner
) -> None:
    ask(task, runner)
    task.refresh_from_db()
    assert task.mark_unreachable(now=timezone.now())
    assert ask(task, runner).state == TaskState.UNREACHABLE
    assert task.come_back(runner=runner, attempt=1)
    assert ask(task, runner).pk == task.pk


@pytest.mark.django_db
def test_what_was_stopped_before_its_claim_was_answered_ends_with_the_next_try(
    task: Task, runner: Runner
) -> None:
    ask(task, runner)
    assert task.request_stop(reason="Stopped by olga.", now=timezone.now())
    with pytest.raises(ClaimRefusedError, match="stopped before it started"):
        ask(task, runner)
    task.refresh_from_db()
    assert (task.state, task.reason) == (TaskState.STOPPED, "Stopped by olga.")
    assert task.log_complete


@pytest.mark.django_db
@pytest.mark.parametrize("change", [{"nonce": "o" * 16}, {"attempt": 2}])
def test_another_nonce_or_attempt_gets_nothing(
    change: dict[str, object], task: Task, runner: Runner
) -> None:
    ask(task, runner)
    with pytest.raises(ClaimRefusedError):
        ask(task, runner, **change)  # type: ignore[arg-type]


@pytest.mark.django_db
def test_after_the_start_the_nonce_opens_nothing(running_task: Task, runner: Runner) -> None:
    with pytest.raises(ClaimRefusedError):
        ask(running_task, runner, nonce=running_task.nonce)


@pytest.mark.django_db
def test_a_runner_of_another_project_gets_nothing(task: Task, cast: Cast) -> None:
    thief = create_runner(
        project=cast.outsiders_project,
        name="thief",
        tags=["linux"],
        concurrency=1,
        takes_untagged=True,
        by=cast.outsider,
        now=timezone.now(),
    ).runner
    with pytest.raises(ClaimRefusedError, match="not this runner's"):
        ask(task, thief)


@pytest.mark.django_db
def test_a_runner_without_the_tags_gets_nothing(task: Task, cast: Cast) -> None:
    plain = create_runner(
        project=cast.project,
        name="plain",
        tags=["windows"],
        concurrency=1,
        takes_untagged=True,
        by=cast.owner,
        now=timezone.now(),
    ).runner
    with pytest.raises(ClaimRefusedError, match="not this runner's"):
        ask(task, plain)


@pytest.mark.django_db
def test_a_stopped_task_cannot_be_claimed(task: Task, runner: Runner) -> None:
    assert task.stop_before_start(reason="Stopped.", now=timezone.now())
    with pytest.raises(ClaimRefusedError):
        ask(task, runner)


@pytest.mark.django_db
def test_an_exclusive_template_runs_one_at_a_time(
    running_task: Task, template: TaskTemplate, cast: Cast, runner: Runner
) -> None:
    second = run_template(template=template, by=cast.owner, now=timezone.now())
    with pytest.raises(ClaimRefusedError, match="another task of its template"):
        ask(second, runner)
    second.refresh_from_db()
    assert second.state == TaskState.QUEUED and second.hinted_at is None


@pytest.mark.django_db
def test_a_project_at_its_limit_starts_nothing(
    running_task: Task, template: TaskTemplate, cast: Cast, runner: Runner
) -> None:
    Project.objects.filter(pk=cast.project.pk).update(max_parallel_tasks=1)
    template.allow_parallel = True
    template.save()
    second = run_template(template=template, by=cast.owner, now=timezone.now())
    with pytest.raises(ClaimRefusedError, match="limit"):
        ask(second, Runner.objects.get(pk=runner.pk))


def at_once(task: Task, runner: Runner, nonces: list[str]) -> list[str]:
    """Claim with all of them in the same moment; returns those that got the task."""
    won: list[str] = []
    barrier = threading.Barrier(len(nonces))

    def race(nonce: str) -> None:
        barrier.wait()
        try:
            ask(task, runner, nonce=nonce)
            won.append(nonce)
        except ClaimRefusedError:
            pass
        finally:
            connections.close_all()

    threads = [threading.Thread(target=race, args=(nonce,)) for nonce in nonces]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won


@pytest.mark.django_db(transaction=True)
def test_of_many_claims_at_once_exactly_one_wins(task: Task, runner: Runner) -> None:
    won = at_once(task, runner, [f"nonce-{i:010}" for i in range(8)])
    task.refresh_from_db()
    assert won == [task.nonce]


@pytest.mark.django_db(transaction=True)
def test_a_claim_that_meets_its_own_repetition_wins_both_times(task: Task, runner: Runner) -> None:
    """As when the database stands still for longer than the runner waits for an answer."""
    assert len(at_once(task, runner, ["n" * 16] * 8)) == 8


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({f"NAME_{number}": "" for number in range(2001)}, "at most 2000 texts"),
        ({f"NAME_{number}": "x" * 999_999 for number in range(70)}, "67,108,864 are possible"),
        ({"NAME": "\ud800"}, "must be text"),
    ],
)
def test_what_no_runner_would_read_ends_with_a_reason(
    environment: dict[str, str], why: str, task: Task, runner: Runner
) -> None:
    """It would ask for it again and again, and hold the task for ever."""
    claimed = ask(task, runner)
    claimed.environment = environment
    with pytest.raises(UndeliverableError, match=why):
        job_of(claimed)
