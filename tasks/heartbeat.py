"""`POST /runner/v1/heartbeat`: a runner says what it holds, and takes orders."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from runners.connect import queue_names
from runners.contact import as_forge_knows
from runners.endpoint import refusal, runner_endpoint
from runners.models import Runner
from runners.operations import note_ending, note_heartbeat, note_trouble
from runners.worker.protocol import Heartbeat, HeartbeatReply, StopOrder, TaskRef
from tasks.lead_clock import lead_clock
from tasks.lifecycle import HELD, TaskState
from tasks.live import announce
from tasks.models import Task
from tasks.policies import LostRunnerPolicy
from tasks.publish import put_out_project

GONE = "The runner came back without it: nobody could say how it ended."


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
    lead_clock.look()
    return take_heartbeat(runner=runner, message=message, now=timezone.now())


def take_heartbeat(*, runner: Runner, message: Heartbeat, now: datetime) -> HeartbeatReply:
    """Note the runner as alive, bring its tasks up to date, and answer with orders."""
    has_recovered = note_trouble(runner=runner, trouble=as_forge_knows(message.trouble))
    note_heartbeat(
        runner=runner, is_leaving=message.is_leaving, is_draining=message.is_draining, now=now
    )
    said = {(item.task, item.attempt) for item in message.held}
    held = _renewed(runner, said, now=now)
    for key, task in held.items():
        if key not in said:
            _note_absence(task, runner, now=now)
        elif task.state == TaskState.UNREACHABLE and task.come_back(
            runner=runner, attempt=task.attempt
        ):
            announce(task.pk)
    drop = _to_drop(runner, said - held.keys())
    has_room = note_ending(runner=runner, ending=_count_given_up(runner, drop))
    if has_recovered or has_room:
        # Where the project has a limit, nothing was announced to it meanwhile.
        put_out_project(runner.project_id, now=now)
    return HeartbeatReply(
        stop=tuple(_orders(held, said)),
        drop=tuple(drop),
        queues=queue_names(runner),
        heartbeat_seconds=settings.FORGE_HEARTBEAT_SECONDS,
        renewed=tuple(TaskRef(*key) for key in sorted(said & held.keys())),
        lease_seconds=settings.FORGE_LEASE_SECONDS,
        concurrency=runner.concurrency,
        drain=_order_to_end(runner, holds_any=bool(held)),
    )


def _order_to_end(runner: Runner, *, holds_any: bool) -> str:
    """Why its worker is to end; empty while it has tasks to finish, for that can be taken back.

    It holds no more later: whoever is drained is given nothing.
    """
    if not runner.drain_order or (holds_any and not runner.was_told_to_end):
        return ""
    return runner.tell_to_end()


def _renewed(
    runner: Runner, said: set[tuple[int, int]], *, now: datetime
) -> dict[tuple[int, int], Task]:
    """What the runner holds by the rows; the leases of what it also says it has are renewed.

    Only a lease that was really renewed may be answered as such: the controller may have given
    the task to the next attempt a moment ago, and then the rows are read again.
    """
    while True:
        rows = Task.objects.held_by(runner).without_scripts()
        held = {(task.pk, task.attempt): task for task in rows}
        both = said & held.keys()
        if not both:
            return held
        if Task.objects.of_attempts(both).renew_leases(runner, now=now) == len(both):
            return held


def _orders(held: dict[tuple[int, int], Task], said: set[tuple[int, int]]) -> list[StopOrder]:
    return [
        StopOrder(
            task=task.pk,
            attempt=task.attempt,
            reason=task.stop_reason,
            is_forced=task.force_requested_at is not None,
        )
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
    mine = Q(state=TaskState.QUEUED) | Q(state__in=sorted(HELD), runner=runner)
    keep = set(rows.filter(mine).values_list("pk", "attempt"))
    return [TaskRef(task, attempt) for task, attempt in sorted(unknown - keep)]


def _count_given_up(runner: Runner, drop: list[TaskRef]) -> int:
    """Those of them that take a slot of its worker: lost, and maybe long in being ended.

    Another attempt's program is killed at once, and what has finished is about to be forgotten.
    """
    if not drop:
        return 0
    meant = Task.objects.of_attempts((one.task, one.attempt) for one in drop)
    return meant.filter(runner=runner, state=TaskState.LOST).count()


def _note_absence(task: Task, runner: Runner, *, now: datetime) -> None:
    """The runner does not have it, so nobody can say how it ended."""
    if _may_travel(task, runner, now=now):
        return
    with transaction.atomic():
        changed = task.mark_unreachable(now=now)
        # Where it may run again, the lease has to end first: what is missing may be no more than
        # the folder of the worker that has it.
        if task.lost_runner_policy != LostRunnerPolicy.RETRY and task.lose(reason=GONE, now=now):
            changed = True
            transaction.on_commit(lambda: put_out_project(task.project_id))
        if changed:
            transaction.on_commit(lambda: announce(task.pk))


def _may_travel(task: Task, runner: Runner, *, now: datetime) -> bool:
    """Whether the answer to its claim may still be under way: within one session and lease."""
    if task.claimed_at is None or runner.connected_at is None or task.lease_expires_at is None:
        return True
    # A session that begins later than now began before the clock was set back, and nobody can say
    # which claims are its own.
    is_of_session = task.claimed_at >= runner.connected_at or runner.connected_at > now
    return is_of_session and task.lease_expires_at > now
