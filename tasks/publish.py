"""Hints: messages that tell a runner that a task may start now.

The row is the task; a hint carries only its id and attempt. Losing, doubling or reordering hints
is harmless, so nothing here needs to be exact: what is missing is put out again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import cast

import redis
from django.utils import timezone
from kombu import Exchange
from kombu import Queue as KombuQueue
from kombu.exceptions import OperationalError

from projects.models import Project
from runners.broker import PREFIX, administrator, celery_app, project_prefix
from runners.models import Queue
from tasks.lifecycle import TaskState
from tasks.models import Task, TaskTemplate

logger = logging.getLogger(__name__)

JOB_NAME = "forge.run_task"
MAXIMUM_HINTS = 100
# A hint that was popped a moment ago is no longer in the queue and not yet claimed.
GRACE = timedelta(seconds=2)
_DEFAULT_EXCHANGE = Exchange("")
_ONE_RETRY = {"max_retries": 1, "interval_start": 0, "interval_step": 0}


def put_out(queue: Queue, *, now: datetime | None = None) -> int:
    """Publish hints for the tasks of `queue` that may start now; returns how many.

    At most MAXIMUM_HINTS lie in a queue, and no more than the project's limit leaves room
    for. A broker that is away is logged: the rows stay queued and the controller tries again.
    """
    room = _room(queue)
    if room <= 0:
        return 0
    waiting = Task.objects.filter(queue=queue, hinted_at=None).startable()[:room]
    found = list(waiting.values_list("pk", "attempt"))
    if not found:
        return 0
    ids = [pk for pk, _ in found]
    Task.objects.filter(pk__in=ids, state=TaskState.QUEUED).update(hinted_at=now or timezone.now())
    publish(queue, found)
    return len(found)


def may_hint_at_once(template: TaskTemplate) -> bool:
    """Whether a new task of the template may be announced without a look at others.

    True for most: no rule of one at a time, no limit of the project, nobody waiting before it,
    and room in the queue. It spares the common case the queries of `put_out`.
    """
    if not template.allow_parallel or template.project.max_parallel_tasks:
        return False
    waiting = Task.objects.filter(queue_id=template.queue_id, state=TaskState.QUEUED)
    if waiting.filter(hinted_at=None).exists():
        return False
    return waiting.count() < MAXIMUM_HINTS


def put_out_project(project_id: int) -> None:
    """As `put_out`, for every queue of the project in which something waits unannounced."""
    waiting = Task.objects.filter(project_id=project_id, state=TaskState.QUEUED, hinted_at=None)
    for queue in Queue.objects.filter(pk__in=waiting.values("queue")):
        put_out(queue)


def _room(queue: Queue) -> int:
    """How many more hints this queue may hold now."""
    room = MAXIMUM_HINTS - Task.objects.filter(queue=queue).hinted().count()
    limit = Project.objects.values_list("max_parallel_tasks", flat=True).get(pk=queue.project_id)
    if limit:
        tasks = Task.objects.filter(project_id=queue.project_id)
        room = min(room, limit - tasks.held().count() - tasks.hinted().count())
    return room


def publish(queue: Queue, attempts: Iterable[tuple[int, int]]) -> None:
    """Send one hint for each (task id, attempt); a broker that is away is only logged."""
    name = f"project:{queue.project_id}:{queue.name}"
    # Without no_declare and the empty exchange, Celery would put everything into its own
    # default queue (DESIGN section 3).
    target = KombuQueue(name, _DEFAULT_EXCHANGE, routing_key=name, no_declare=True)
    app = celery_app()
    try:
        with app.producer_pool.acquire(block=True, timeout=2) as producer:
            for task_id, attempt in attempts:
                app.send_task(
                    JOB_NAME,
                    args=(task_id, attempt),
                    task_id=hint_id(task_id, attempt),
                    queue=target,  # type: ignore[arg-type]  # the stubs know names only
                    producer=producer,
                    retry=True,
                    retry_policy=_ONE_RETRY,
                    ignore_result=False,
                )
    except (OperationalError, OSError, redis.RedisError) as error:
        logger.warning("hints for %s not published yet: %s", name, error)


def hint_id(task_id: int, attempt: int) -> str:
    """The Celery message id of one attempt, which Flower shows: `48213.1`."""
    return f"{task_id}.{attempt}"


def reconcile(*, now: datetime) -> int:
    """Put out what is missing in every queue; returns how many hints were sent.

    Compares each queue's length with the number of rows that should be in it, and reads the
    queue only where they differ. Raises redis.RedisError while the broker is away.
    """
    waiting = Task.objects.filter(state=TaskState.QUEUED)
    queues = list(Queue.objects.filter(pk__in=waiting.values("queue")))
    sent = sum(put_out(queue, now=now) for queue in queues)
    for queue, length in zip(queues, _lengths(queues), strict=True):
        if length != Task.objects.filter(queue=queue).hinted().count():
            sent += _repeat_missing(queue, now=now)
    return sent


def _key(queue: Queue) -> str:
    return f"{project_prefix(queue.project_id)}{queue.name}"


def _lengths(queues: Sequence[Queue]) -> list[int]:
    pipeline = administrator().pipeline(transaction=False)
    for queue in queues:
        pipeline.llen(_key(queue))
    return cast("list[int]", pipeline.execute()) if queues else []


def _repeat_missing(queue: Queue, *, now: datetime) -> int:
    present = _ids_in(queue)
    due = Task.objects.filter(queue=queue, hinted_at__lt=now - GRACE).hinted().order_by("pk")
    rows = due.values_list("pk", "attempt")[:MAXIMUM_HINTS]
    missing = [row for row in rows if hint_id(*row) not in present]
    if missing:
        ids = [pk for pk, _ in missing]
        Task.objects.filter(pk__in=ids, state=TaskState.QUEUED).update(hinted_at=now)
        logger.info("%d hints were missing in %s%s", len(missing), PREFIX, queue)
        publish(queue, missing)
    return len(missing)


def _ids_in(queue: Queue) -> set[str]:
    """The message ids in the queue. What does not look like a hint of ours is passed over."""
    found = set()
    for raw in cast("list[bytes]", administrator().lrange(_key(queue), 0, 10 * MAXIMUM_HINTS)):
        try:
            found.add(str(json.loads(raw)["headers"]["id"]))
        except (ValueError, KeyError, TypeError):
            logger.warning("a message in %s is no hint of Forge", queue)
    return found
