"""`POST /runner/v1/claim`: a runner asks for a task, and one of them gets it."""

from __future__ import annotations

import logging
from datetime import datetime
from functools import partial

from django.conf import settings
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from projects.errors import ForgeError
from projects.models import Project
from projects.single import single
from runners.endpoint import refusal, runner_endpoint
from runners.models import Runner
from runners.quotas import Quota
from runners.worker.failpoints import reached
from runners.worker.fields import ProtocolError
from runners.worker.protocol import MAXIMUM_ANSWER_BYTES, ClaimRequest, Job
from tasks.errors import ClaimRefusedError, UndeliverableError
from tasks.lifecycle import HELD, TaskState
from tasks.live import announce
from tasks.models import Task, TaskTemplate
from tasks.policies import LostRunnerPolicy
from tasks.publish import lies_in_queue, put_out, put_out_project
from tasks.sources import deliver
from tasks.transitions import REASON_LENGTH

logger = logging.getLogger(__name__)

NOT_ITS = "it is not this runner's"
# How many hints a runner may hand back in a second.
hand_backs = Quota(5.0, burst_seconds=4)
# Of the template only its name goes along: all else was copied into the task, the script too.
_READ = ("id", "name", "project")
_UNREAD = tuple(
    f"template__{field.name}"
    for field in TaskTemplate._meta.concrete_fields
    if field.name not in _READ
)


@runner_endpoint(ClaimRequest)
def claim(request: HttpRequest, runner: Runner, message: ClaimRequest) -> Job | HttpResponse:
    _reached("claim sent", message, runner)
    now = timezone.now()
    try:
        task = claim_task(runner=runner, request=message, now=now)
        job = job_of(task)
    except ClaimRefusedError as error:
        return refusal(409, "claim_refused", str(error))
    except ForgeError as error:
        fail_claimed(task, runner=runner, reason=str(error), now=now)
        return refusal(409, "claim_refused", f"Task #{task.pk} failed: {error}")
    announce(task.pk)
    _reached("claim committed", message, runner)
    return job


def _reached(place: str, request: ClaimRequest, runner: Runner) -> None:
    reached(place, task=request.task, attempt=request.attempt, runner=runner.name)


def claim_task(*, runner: Runner, request: ClaimRequest, now: datetime) -> Task:
    """Give the task to the runner. Raises ClaimRefusedError when it is not its to start."""
    rows = Task.objects.select_related("template", "queue").defer(*_UNREAD)
    task = single(rows.filter(pk=request.task, project_id=runner.project_id))
    if task is None:
        raise ClaimRefusedError(request.task, NOT_ITS)
    # Came with the runner; without this line the database would be asked for it again.
    task.project = runner.project
    if is_repeated(task, runner, request):
        return _repeat(task, runner, request, now=now)
    try:
        with transaction.atomic():
            _check_runner(task, runner, request, now=now)
            _check_limit(task)
            _check_line(task)
            if task.claim(runner=runner, attempt=request.attempt, nonce=request.nonce, now=now):
                return task
        why: ClaimRefusedError = ClaimRefusedError(
            task.pk, "it was claimed, stopped or finished before"
        )
    except IntegrityError:
        why = NotNowError(task.pk, "another task of its template runs")
    except ClaimRefusedError as error:
        why = error
    # The same claim, sent again because its first answer took too long, may have met the first
    # one here, which was committed after this one had read the row. Its worker must learn that it
    # holds the task, whatever it may take by now.
    if Task.objects.held_by(runner).filter(pk=task.pk, nonce=request.nonce).exists():
        task.refresh_from_db()
    if is_repeated(task, runner, request):
        return _repeat(task, runner, request, now=now)
    if isinstance(why, NotNowError):
        _take_back_hint(task, runner, is_handed_back=request.is_draining)
    if isinstance(why, NotItsTurnError):
        transaction.on_commit(partial(put_out, task.queue))
    raise why


class NotNowError(ClaimRefusedError):
    """It may start later, or with another runner: its hint is to be put out again."""


class NotItsTurnError(NotNowError):
    """Something before it in its queue may start at once."""


# What decides whether a runner may take something, and may change while it asks.
_JUDGED = (
    "session",
    "concurrency",
    "takes_untagged",
    "removed_at",
    "paused_at",
    "paused_by",
    "paused_until",
    "is_draining",
    "drain_order",
    "quarantined_until",
)


def _check_runner(task: Task, runner: Runner, request: ClaimRequest, *, now: datetime) -> None:
    """Raises ClaimRefusedError when the runner may take nothing just now, or not this.

    Its row is locked and read anew: it may have been removed, paused, drained or changed since the
    request was let in, and of many claims at once none can slip past the count of what it holds.
    """
    row = Runner.objects.select_for_update(no_key=True)
    runner.refresh_from_db(fields=_JUDGED, from_queryset=row)
    # First: what is not for it cannot have come to it, and its hint stays where it is.
    if not runner.may_take(task.queue):
        raise ClaimRefusedError(task.pk, NOT_ITS)
    if runner.removed_at is not None:
        raise NotNowError(task.pk, f"{runner.name} was removed")
    if request.session not in (None, runner.session):
        # It was held up, and its worker has ended: nobody would run the task.
        raise NotNowError(task.pk, f"another worker has connected as {runner.name} since")
    if runner.is_quarantined(now=now):
        raise ClaimRefusedError(task.pk, f"{runner.name} is cut off from the broker")
    if is_fenced(task) and not request.keeps_leases:
        raise NotNowError(task.pk, f"{runner.name} is too old to keep leases; update it")
    if runner.is_paused(now=now):
        raise NotNowError(task.pk, f"{runner.name} is paused by {runner.pauser}")
    if runner.drain_order:
        raise NotNowError(task.pk, f"{runner.name} is being drained")
    if request.is_draining or runner.is_draining:
        raise NotNowError(task.pk, f"{runner.name} is shutting down")
    # A worker never runs more at once than its row says, as the last heartbeat's answer said it;
    # of one that asks for more, no more than as many again may be on their way: finished, and not
    # yet reported as such.
    if Task.objects.held_by(runner).count() >= 2 * runner.concurrency:
        raise NotNowError(task.pk, f"{runner.name} holds enough tasks")


def _check_limit(task: Task) -> None:
    """Hold the project's row while counting, so that two claims cannot both be the last.

    Raises NotNowError.
    """
    if not task.project.max_parallel_tasks:
        return
    project = Project.objects.select_for_update(no_key=True).get(pk=task.project_id)
    limit = project.max_parallel_tasks
    if limit and Task.objects.filter(project=project).held().count() >= limit:
        raise NotNowError(task.pk, "its project is at its limit")


def _check_line(task: Task) -> None:
    """What came back meanwhile, such as from a runner that was paused just then, starts first.

    Of what must run alone the publisher knows whether it may start. Raises NotItsTurnError.
    """
    if task.hinted_at is None:
        return
    waiting = Task.objects.to_hint().filter(is_exclusive=False).in_line(task.queue)
    first = waiting.values_list("pk", flat=True).first()
    if first is not None and first < task.pk:
        raise NotItsTurnError(task.pk, "an earlier one is put out again first")


def _take_back_hint(task: Task, runner: Runner, *, is_handed_back: bool) -> None:
    """It may not start now: the publisher puts its hint out again when it may.

    At once, if its worker has popped it for nothing: others may be free. A worker can say that of
    what it has not popped, and of all that waits: what lies there stays, and of more than a few in
    a second the publisher notices by itself that they are missing.
    """
    if is_handed_back and (hand_backs.wait_before(runner.pk) or lies_in_queue(task)):
        return
    Task.objects.filter(pk=task.pk, state=TaskState.QUEUED).update(hinted_at=None)
    if is_handed_back:
        transaction.on_commit(partial(put_out, task.queue))


def is_fenced(task: Task) -> bool:
    """Whether its processes must not outlive its lease: another attempt may begin then."""
    return task.lost_runner_policy == LostRunnerPolicy.RETRY


def is_repeated(task: Task, runner: Runner, request: ClaimRequest) -> bool:
    """The same claim again before the start was reported: the first answer may be lost.

    Meanwhile its runner may have been out of reach, so the task may have left `starting`.
    """
    return (
        task.state in HELD
        and task.started_at is None
        and task.runner_id == runner.pk
        and task.attempt == request.attempt
        and task.nonce == request.nonce
    )


def _repeat(task: Task, runner: Runner, request: ClaimRequest, *, now: datetime) -> Task:
    """The same answer again, with a new lease. Raises ClaimRefusedError if it is not to start."""
    attempt = request.attempt
    if task.renew_claim(runner=runner, attempt=attempt, nonce=request.nonce, now=now):
        return task
    task.refresh_from_db()
    # Whoever asks runs nothing yet, so what was to be stopped is stopped.
    end = partial(task.finish, runner=runner, attempt=attempt, now=now)
    # Nothing was written, and nothing is missing.
    if task.stop_requested_at and end(
        TaskState.STOPPED, reason=task.stop_reason, log_complete=True
    ):
        transaction.on_commit(partial(announce, task.pk))
        transaction.on_commit(partial(put_out_project, task.project_id))
    raise ClaimRefusedError(task.pk, "it was stopped before it started, or given up")


def fail_claimed(task: Task, *, runner: Runner, reason: str, now: datetime) -> None:
    """What it needs cannot be delivered: end it with a reason, before anything runs."""
    end = partial(task.finish, runner=runner, attempt=task.attempt, now=now)
    said = f"It was not started: {reason}"[:REASON_LENGTH]
    if end(TaskState.FAILED, reason=said, log_complete=True):
        logger.error("task %s was not started: %s", task.pk, reason)
        transaction.on_commit(partial(announce, task.pk))
        transaction.on_commit(partial(put_out_project, task.project_id))


def job_of(task: Task) -> Job:
    """The job with its secrets, for the answer to the claim and for nothing else.

    Raises ForgeError when a secret cannot be read, its source was removed, or it is too much.
    """
    delivery = deliver(task)
    job = Job(
        task=task.pk,
        attempt=task.attempt,
        app=task.app,
        script=task.script,
        environment=delivery.environment,
        timeout_seconds=float(task.timeout_seconds),
        project=task.project.name,
        template=task.template.name,
        secrets=delivery.secrets,
        files=tuple(delivery.files),
        stop_steps=task.signal_steps,
        lease_seconds=settings.FORGE_LEASE_SECONDS,
        is_fenced=is_fenced(task),
        log_head_bytes=task.log_head_bytes,
        log_tail_bytes=task.log_tail_bytes,
    )
    _check_readable(job)
    return job


def _check_readable(job: Job) -> None:
    """Raises UndeliverableError for what its runner would take for no answer of Forge's."""
    body = job.as_bytes()
    if len(body) > MAXIMUM_ANSWER_BYTES:
        raise UndeliverableError(
            f"It has {len(body):,} bytes, and {MAXIMUM_ANSWER_BYTES:,} are possible."
        )
    try:
        Job.parse(body)
    except ProtocolError as error:
        raise UndeliverableError(str(error)) from None
