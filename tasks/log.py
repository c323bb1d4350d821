"""Logs: taken in by offset, read back byte for byte."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime

from django.db import IntegrityError, transaction

from tasks.models import LogChunk, Task


def append(task: Task, *, offset: int, data: bytes, now: datetime) -> int:
    """Store what is new of `data`, which begins at `offset`; returns the committed length.

    A piece that was sent before is skipped; one that would leave a gap is not stored, and the
    sender sees from the answer where to go on. `task` must be fresh and held by the sender.
    """
    skip = task.log_bytes - offset
    if skip < 0 or skip >= len(data):
        return task.log_bytes
    new = data[skip:]
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

    Pieces are read one by one, so a log of any size costs the memory of one chunk.
    """
    end = task.log_bytes if limit is None else min(task.log_bytes, offset + limit)
    position = max(offset, 0)
    chunks = LogChunk.objects.filter(task=task, attempt=task.attempt)
    # The chunk that `position` falls into begins at or before it.
    while position < end:
        chunk = chunks.filter(offset__lte=position).order_by("-offset").first()
        if chunk is None:
            return
        data = bytes(chunk.data)[position - chunk.offset : end - chunk.offset]
        if not data:
            return
        position += len(data)
        yield data


def attachment_headers(task: Task) -> dict[str, str]:
    """What keeps a browser from taking a log for anything but text to be saved."""
    return {
        "Content-Disposition": f'attachment; filename="task-{task.pk}.log"',
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }


def digest(task: Task) -> str:
    """The SHA-256 of the committed log of the current attempt, in hexadecimal."""
    digest = hashlib.sha256()
    for piece in read_log(task):
        digest.update(piece)
    return digest.hexdigest()
