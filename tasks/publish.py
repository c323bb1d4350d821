"""Hints: messages that tell a runner that a task may start now.

The row is the task; a hint carries only its id and attempt. Losing, doubling or reordering hints
is harmless, so nothing here needs to be exact: what is missing is put out again, and a claim out
of order is refused.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, cast

import redis
from django.utils import timezone
from kombu import Exchange, Producer
from kombu import Queue as KombuQueue
from kombu.exceptions import KombuError, LimitExceeded

from runners.broker import PREFIX, administrator, celery_app, project_prefix
from runners.models import Queue, Runner
from tasks.candidates import Situation
from tasks.lifecycle import TaskState
from tasks.models import Task, TaskTemplate

logger = logging.getLogger(__name__)

QUEUED = TaskState.QUEUED
JOB_NAME = "forge.run_task"
MAXIMUM_HINTS = 100
# More than ever lies in a queue: it is read no further.
MUCH = 10 * MAXIMUM_HINTS
MAXIMUM_SORTINGS = 5
# A hint that was popped a moment ago is no longer in the queue and not yet claimed.
GRACE = timedelta(seconds=2)
_DEFAULT_EXCHANGE = Exchange("")
_ONE_RETRY = {"max_retries": 1, "interval_start": 0, "interval_step": 0}


def put_out(queue: Queue, *, now: datetime | None = None) -> int:
    """Publish hints for the tasks of `queue` that may start now; returns how many.

    At most MAXIMUM_HINTS lie in a queue, and none that only paused runners could take. Where the
    project has a limit, its queues share what that leaves. A broker that does not take them is
    logged: the rows stay queued and the controller tries again.
    """
    with _leaving_it_to_the_controller():
        return _put_out(queue, now=now or timezone.now())
    return 0


def _put_out(queue: Queue, *, now: datetime) -> int:
    """As `put_out`; raises redis.RedisError and OSError."""
    if limit := queue.project.max_parallel_tasks:
        return _share_out(queue.project_id, limit, now=now)
    room = MAXIMUM_HINTS - Task.objects.filter(queue=queue).hinted().count()
    if room <= 0 or not Runner.objects.entitled_to(queue).unpaused(now).exists():
        return 0
    return _send(queue, _startable(queue, room), now=now)


def may_hint_at_once(template: TaskTemplate, *, now: datetime) -> bool:
    """Whether a new task of the template may be announced without a look at others.

    True for most: no rule of one at a time, no limit of the project, nobody waiting before it,
    room in the queue, and a runner that is not paused. It spares the common case the queries of
    `put_out`.
    """
    if not template.allow_parallel or template.project.max_parallel_tasks:
        return False
    waiting = Task.objects.filter(queue_id=template.queue_id)
    if waiting.to_hint().exists() or waiting.hinted().count() >= MAXIMUM_HINTS:
        return False
    return Runner.objects.entitled_to(template.queue).unpaused(now).exists()


def put_out_project(project_id: int, *, now: datetime | None = None) -> None:
    """As `put_out`, for every queue of the project.

    Follows every end of a task, and mostly there is nothing to put out.
    """
    queues = Queue.objects.filter(project_id=project_id).order_by().values("pk")
    if not Task.objects.to_hint().filter(queue__in=queues).exists():
        return
    now = now or timezone.now()
    with _leaving_it_to_the_controller():
        for _ in _put_out_all(_waiting_in(project_id), now=now):
            pass


def _with_waiting() -> list[Queue]:
    """All queues in which something waits, with their projects.

    One step along an index for each. In one statement PostgreSQL would read all that wait: it
    takes what most of them have in common to be true of every queue.
    """
    waiting = Task.objects.filter(state=QUEUED).order_by("queue_id")
    found: list[int] = []
    last = waiting.values_list("queue_id", flat=True).first()
    while last is not None:
        found.append(last)
        last = waiting.filter(queue_id__gt=last).values_list("queue_id", flat=True).first()
    return list(Queue.objects.filter(pk__in=found).select_related("project").order_by("pk"))


def _waiting_in(project_id: int) -> list[Queue]:
    """As `_with_waiting`, of one project."""
    queues = Queue.objects.filter(project_id=project_id).select_related("project").order_by("pk")
    return [one for one in queues if Task.objects.filter(queue=one, state=QUEUED).exists()]


def _startable(queue: Queue, room: int) -> list[tuple[int, int]]:
    """(id, attempt) of the first `room` tasks that their template's own rule lets start now."""
    if room <= 0:
        return []
    rows = Task.objects.to_hint()
    parallel = rows.filter(is_exclusive=False).in_line(queue)
    found = list(parallel.values_list("pk", "attempt")[:room])
    alone = rows.filter(queue=queue, is_exclusive=True).first_of_templates(queue.project)
    return sorted([*found, *alone.values_list("pk", "attempt")])[:room]


def _share_out(project_id: int, limit: int, *, now: datetime) -> int:
    """Hints of a project with a limit, first in first out over all of its queues.

    What is out counts against the limit, so a hint goes only where a slot is free for it: one
    that lay before a busy or silent runner would keep tasks of others from starting.
    """
    tasks = Task.objects.filter(project_id=project_id).order_by()
    queues = _waiting_in(project_id)
    situation = Situation(project_id, now=now)
    out = {queue.pk: Task.objects.filter(queue=queue).hinted().count() for queue in queues}
    free = {queue.pk: situation.free_slots(queue.required_tags) - out[queue.pk] for queue in queues}
    room = limit - tasks.held().count() - sum(out.values())
    line = sorted(
        (pk, attempt, queue.pk)
        for queue in queues
        for pk, attempt in _startable(queue, min(room, free[queue.pk], MAXIMUM_HINTS))
    )
    chosen: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for pk, attempt, queue_id in line[: max(room, 0)]:
        chosen[queue_id].append((pk, attempt))
    return sum(_send(queue, chosen[queue.pk], now=now) for queue in queues)


def _send(queue: Queue, attempts: Sequence[tuple[int, int]], *, now: datetime) -> int:
    if attempts:
        ids = [pk for pk, _ in attempts]
        last = Task.objects.hinted().in_line(queue).values_list("pk", flat=True).last()
        Task.objects.filter(pk__in=ids, state=QUEUED).update(hinted_at=now)
        _publish(queue, attempts)
        if last is not None and last > min(ids):
            _sort(queue)
    return len(attempts)


def _sort(queue: Queue) -> None:
    """First in first out, where later ones lie in the queue: some were handed back, or are to run
    again.

    Workers pop meanwhile; after some tries in vain it stays as it is. Raises redis.RedisError.
    """
    key = _key(queue)
    with administrator().pipeline() as pipeline:
        for _ in range(MAXIMUM_SORTINGS):
            with suppress(redis.WatchError):
                pipeline.watch(key)  # type: ignore[no-untyped-call]  # the stubs lack it
                found = cast("list[bytes]", pipeline.lrange(key, 0, MUCH))
                # Workers take from the end.
                line = sorted(found, key=_place_of, reverse=True)
                if line == found or len(found) > MUCH:
                    return
                pipeline.multi()
                pipeline.delete(key)
                pipeline.rpush(key, *line)
                pipeline.execute()
                return


def _place_of(raw: bytes) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in _id_in(raw).split("."))
    except ValueError:
        return ()


def publish(queue: Queue, attempts: Sequence[tuple[int, int]]) -> None:
    """Send one hint for each (task id, attempt); a broker that does not take them is logged."""
    with _leaving_it_to_the_controller():
        _publish(queue, attempts)


@contextmanager
def _leaving_it_to_the_controller() -> Iterator[None]:
    try:
        yield
    except (redis.RedisError, OSError) as error:
        logger.warning("hints not published yet: %s", error)


def _publish(queue: Queue, attempts: Sequence[tuple[int, int]]) -> None:
    """As `publish`; raises redis.RedisError and OSError."""
    name = f"project:{queue.project_id}:{queue.name}"
    # Without no_declare and the empty exchange, Celery would put everything into its own
    # default queue (DESIGN section 3).
    target = KombuQueue(name, _DEFAULT_EXCHANGE, routing_key=name, no_declare=True)
    app = celery_app()
    connections: Any = app.pool  # the stubs take it for producers
    try:
        # Not a producer of Celery's pool: it would wait for its connection without end.
        with connections.acquire(block=True, timeout=2) as connection:
            producer = Producer(connection)
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
    except KombuError as error:
        # Also where others hold all connections, as while the broker does not answer.
        raise _told_by_broker(error) from error


def _told_by_broker(error: KombuError) -> redis.RedisError | OSError:
    """What Kombu has made one of its own errors of."""
    cause = error.__cause__
    if isinstance(error, LimitExceeded):
        return OSError("all connections to the broker wait for its answer")
    if isinstance(cause, redis.RedisError | OSError):
        return cause
    return OSError(str(error))


def hint_id(task_id: int, attempt: int) -> str:
    """The Celery message id of one attempt, which Flower shows: `48213.1`."""
    return f"{task_id}.{attempt}"


def reconcile(*, now: datetime) -> int:
    """Put out what is missing in every queue; returns how many hints were sent.

    Compares each queue's length with the number of rows that should be in it, and reads the
    queue only where they differ. Raises redis.RedisError or OSError while the broker is away, and
    redis.ResponseError when it takes no hints.
    """
    queues = _with_waiting()
    situations = {one.project_id: Situation(one.project_id, now=now) for one in queues}
    for queue in queues:
        _take_back_stranded(queue, situations[queue.project_id])
    sent = sum(_put_out_all(queues, now=now))
    for queue, length in zip(queues, _lengths(queues), strict=True):
        announced = Task.objects.filter(queue=queue).hinted().count()
        if length > announced:
            _drop_surplus(queue, length)
        if length != announced:
            sent += _repeat_missing(queue, now=now)
    return sent


def _put_out_all(queues: Sequence[Queue], *, now: datetime) -> Iterator[int]:
    """How many hints went out, by queue, or by project where that has a limit.

    Raises redis.RedisError and OSError.
    """
    limits = {queue.project_id: queue.project.max_parallel_tasks for queue in queues}
    for project_id, limit in limits.items():
        if limit:
            yield _share_out(project_id, limit, now=now)
    for queue in queues:
        if not limits[queue.project_id]:
            yield _put_out(queue, now=now)


def _take_back_stranded(queue: Queue, situation: Situation) -> None:
    """Hints that nobody takes are no use, and where the project has a limit they count.

    Their runners were paused or removed, or, with a limit, are silent or have no slot free.
    """
    has_limit = bool(queue.project.max_parallel_tasks)
    required = queue.required_tags
    is_taken = situation.free_slots(required) > 0 if has_limit else situation.is_served(required)
    if is_taken or not Task.objects.filter(queue=queue).hinted().exists():
        return
    administrator().delete(_key(queue))
    Task.objects.filter(queue=queue).hinted().update(hinted_at=None)


def _key(queue: Queue) -> str:
    return f"{project_prefix(queue.project_id)}{queue.name}"


def _lengths(queues: Sequence[Queue]) -> list[int]:
    pipeline = administrator().pipeline(transaction=False)
    for queue in queues:
        pipeline.llen(_key(queue))
    return cast("list[int]", pipeline.execute()) if queues else []


def _drop_surplus(queue: Queue, length: int) -> None:
    """Leave one hint of each task that is announced: every other costs a worker a claim in vain.

    Of a queue that is too long to be read all are taken back.
    """
    key, rows = _key(queue), Task.objects.filter(queue=queue).hinted()
    if length > MUCH:
        logger.warning("%d messages in %s%s were dropped", length, PREFIX, queue)
        administrator().delete(key)
        rows.update(hinted_at=None)
        return
    found = cast("list[bytes]", administrator().lrange(key, 0, MUCH))
    # Asked after that: what was put out since is not among them.
    wanted = {hint_id(*row) for row in rows.values_list("pk", "attempt")}
    surplus = []
    for raw in reversed(found):  # the end from which workers take
        with suppress(ValueError):
            name = _id_in(raw)
            if name not in wanted:
                surplus.append(raw)
            wanted.discard(name)
    pipeline = administrator().pipeline(transaction=False)
    for raw in surplus:
        pipeline.lrem(key, 1, raw)  # type: ignore[arg-type]  # the stubs know text only
    pipeline.execute()
    if surplus:
        logger.info("%d hints too many were in %s%s", len(surplus), PREFIX, queue)


def lies_in_queue(task: Task) -> bool:
    """Whether its hint waits for a worker; True too where the broker does not say."""
    try:
        return hint_id(task.pk, task.attempt) in _ids_in(task.queue)
    except (redis.RedisError, OSError):
        return True


def _repeat_missing(queue: Queue, *, now: datetime) -> int:
    present = _ids_in(queue)
    due = Task.objects.filter(hinted_at__lt=now - GRACE).hinted().in_line(queue)
    rows = due.values_list("pk", "attempt")[:MAXIMUM_HINTS]
    missing = [row for row in rows if hint_id(*row) not in present]
    if missing:
        ids = [pk for pk, _ in missing]
        Task.objects.filter(pk__in=ids, state=QUEUED).update(hinted_at=now)
        logger.info("%d hints were missing in %s%s", len(missing), PREFIX, queue)
        _publish(queue, missing)
        _sort(queue)
    return len(missing)


def _ids_in(queue: Queue) -> set[str]:
    """The message ids in the queue. What does not look like a hint of ours is passed over."""
    found = set()
    for raw in cast("list[bytes]", administrator().lrange(_key(queue), 0, MUCH)):
        try:
            found.add(_id_in(raw))
        except ValueError:
            logger.warning("a message in %s is no hint of Forge", queue)
    return found


def _id_in(raw: bytes) -> str:
    """Raises ValueError for what is no hint."""
    try:
        return str(json.loads(raw)["headers"]["id"])
    except (KeyError, TypeError) as error:
        raise ValueError from error
