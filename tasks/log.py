"""Logs: taken in by offset, read back byte for byte."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from tasks.models import LogChunk, Task

# Chunks that begin within so many bytes are read at once.
WINDOW_BYTES = 1024 * 1024


def append(task: Task, *, offset: int, data: bytes, now: datetime) -> int:
    """Store what is new of `data`, which begins at `offset`; returns the committed length.

    A piece that was sent before is skipped; one that would leave a gap is not stored, and the
    sender sees from the answer where to go on. Nothing goes above the task's limit. `task` must
    be fresh and held by the sender.
    """
    skip = task.log_bytes - offset
    if skip < 0 or skip >= len(data):
        return task.log_bytes
    limit = task.log_limit_bytes
    new = data[skip:] if limit is None else data[skip : skip + max(limit - task.log_bytes, 0)]
    if not new:
        return task.log_bytes
    try:
        with transaction.atomic():
            _store(task, new, now=now)
    except IntegrityError:
        # The same piece arrived twice at once; whoever was first has stored it.
        task.refresh_from_db(fields=["log_bytes"])
    return task.log_bytes


def _store(task: Task, data: bytes, *, now: datetime) -> None:
    LogChunk.objects.create(
        task=task, attempt=task.attempt, offset=task.log_bytes, data=data, received_at=now
    )
    length = task.log_bytes + len(data)
    rows = Task.objects.filter(pk=task.pk, attempt=task.attempt, log_bytes=task.log_bytes)
    if not rows.update(log_bytes=length):
        raise IntegrityError("the log grew meanwhile")
    task.log_bytes = length


def read_log(task: Task, *, offset: int = 0, limit: int | None = None) -> Iterator[bytes]:
    """The committed bytes of the current attempt from `offset`, in pieces, at most `limit` bytes.

    A log of any size costs the memory of two large chunks, and one of many small chunks few
    queries.
    """
    end = task.log_bytes if limit is None else min(task.log_bytes, offset + limit)
    position = max(offset, 0)
    chunks = LogChunk.objects.filter(task=task, attempt=task.attempt)
    while position < end:
        begin = position
        for chunk in _window(chunks, position, end):
            data = bytes(chunk.data)[position - chunk.offset : end - chunk.offset]
            if chunk.offset > position or not data:
                return
            position += len(data)
            yield data
        if position == begin:
            return


def _window(chunks: QuerySet[LogChunk], position: int, end: int) -> Iterator[LogChunk]:
    """The chunk that `position` falls into, and those that begin soon after it."""
    # It begins at or before it.
    first = chunks.filter(offset__lte=position).order_by("-offset").first()
    if first is None:
        return
    yield first
    behind = min(first.offset + WINDOW_BYTES, end)
    more = chunks.filter(offset__gt=first.offset, offset__lt=behind).order_by("offset")
    if first.offset + len(first.data) < behind:
        yield from more


def attachment_headers(task: Task) -> dict[str, str]:
    """What keeps a browser from taking a log for anything but text to be saved."""
    return {
        "Content-Disposition": f'attachment; filename="task-{task.pk}.log"',
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
