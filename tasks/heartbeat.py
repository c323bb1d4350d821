"""`POST /runner/v1/heartbeat`: a runner says what it holds, and takes orders."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from runners.connect import queue_names
from runners.endpoint import refusal, runner_endpoint
from runners.models import Runner
from runners.operations import note_heartbeat
from runners.worker.protocol import Heartbeat, HeartbeatReply, StopOrder, TaskRef
from tasks.lifecycle import HELD, TaskState
from tasks.live import announce
from tasks.models import Task
from tasks.publish import put_out_project

GONE = "The runner came back without it: nobody can say how it ended."


@runner_endpoint(Heartbeat)
def heartbeat(
    request: HttpRequest, runner: Runner, message: Heartbeat
) -> HeartbeatReply | HttpResponse:
    if message.session != runner.session:
        return refusal(
            409,
            "displaced",
            f"Another worker has connected as {runner.name} since; this one ends.",
        )
    return take_heartbeat(runner=runner, message=message, now=timezone.now())


def take_heartbeat(*, runner: Runner, message: Heartbeat, now: datetime) -> HeartbeatReply:
    """Note the runner as alive, bring its tasks up to date, and answer with orders."""
    note_heartbeat(runner=runner, is_leaving=message.is_leaving, now=now)
    said = {(item.task, item.attempt) for item in message.held}
    held = {(task.pk, task.attempt): task for task in Task.objects.held_by(runner)}
    for key, task in held.items():
        if key not in said:
            _note_absence(task, runner, now=now)
        elif task.state == TaskState.UNREACHABLE and task.come_back(
            runner=runner, attempt=task.attempt
        ):
            announce(task.pk)
    return HeartbeatReply(
        stop=tuple(_orders(held, said)),
        drop=tuple(_to_drop(runner, said - held.keys())),
        queues=queue_names(runner),
        heartbeat_seconds=settings.FORGE_HEARTBEAT_SECONDS,
    )


def _orders(held: dict[tuple[int, int], Task], said: set[tuple[int, int]]) -> list[StopOrder]:
    return [
        StopOrder(task=task.pk, attempt=task.attempt, reason=task.stop_reason)
        for key, task in held.items()
        if key in said and task.state == TaskState.STOPPING
    ]


def _to_drop(runner: Runner, unknown: set[tuple[int, int]]) -> list[TaskRef]:
    """What the runner holds and should not: another's, an older attempt's, or finished.

    Judged by one query: a claim of this runner may be committed at this very moment.
    """
    if not unknown:
        return []
    rows = Task.objects.filter(pk__in=[task for task, _ in unknown], project=runner.project)
    mine = Q(state=TaskState.QUEUED) | Q(state__in=HELD, runner=runner)
    keep = set(rows.filter(mine).values_list("pk", "attempt"))
    return [TaskRef(task, attempt) for task, attempt in sorted(unknown - keep)]


def _note_absence(task: Task, runner: Runner, *, now: datetime) -> None:
    """The runner does not have it. Within one session that is a claim whose answer travels."""
    if task.claimed_at is None or runner.connected_at is None:
        return
    if task.claimed_at >= runner.connected_at:
        return
    with transaction.atomic():
        task.mark_unreachable(now=now)
        if task.lose(reason=GONE, now=now):
            transaction.on_commit(lambda: put_out_project(task.project_id))
            transaction.on_commit(lambda: announce(task.pk))
