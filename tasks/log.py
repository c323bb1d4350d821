"""Logs: taken in by offset, read back byte for byte."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from tasks.log_times import Age, Kept, LogPiece, kept_ages, piece_of
from tasks.models import LogChunk, Task

# Chunks that begin within so many bytes are read at once.
WINDOW_BYTES = 1024 * 1024


def append(task: Task, *, offset: int, data: bytes, now: datetime, ages: Iterable[Age] = ()) -> int:
    """Store what is new of `data`, which begins at `offset`; returns how many bytes that was.

    A piece that was sent before is skipped; one that would leave a gap is not stored, and the
    sender sees from `log_bytes` where to go on. Nothing goes above the task's limit. `task` must
    be fresh and held by the sender. `ages` says since when which bytes of `data` are written.
    """
    skip = task.log_bytes - offset
    if skip < 0 or skip >= len(data):
        return 0
    limit = task.log_limit_bytes
    new = data[skip:] if limit is None else data[skip : skip + max(limit - task.log_bytes, 0)]
    if not new:
        return 0
    kept = kept_ages(ages, begin=skip, size=len(new), most=_age_of_claim(task, now))
    try:
        with transaction.atomic():
            _store(task, new, kept, now=now)
    except IntegrityError:
        # Another piece has arrived at once; whoever was first has stored it, and may have said
        # something else.
        task.refresh_from_db(fields=["log_bytes", "log_lines"])
        return 0
    return len(new)


def _age_of_claim(task: Task, now: datetime) -> float:
    """In seconds; nothing of its log is older."""
    return max((now - task.claimed_at).total_seconds(), 0.0) if task.claimed_at else 0.0


def _store(task: Task, data: bytes, ages: list[Kept] | None, *, now: datetime) -> None:
    line_ends = data.count(b"\n")
    LogChunk.objects.create(
        task=task,
        attempt=task.attempt,
        offset=task.log_bytes,
        data=data,
        received_at=now,
        lines_before=task.log_lines,
        line_ends=line_ends,
        ages=ages,
    )
    known = {"log_bytes": task.log_bytes, "log_lines": task.log_lines}
    grown = {"log_bytes": task.log_bytes + len(data), "log_lines": task.log_lines + line_ends}
    if not Task.objects.filter(pk=task.pk, attempt=task.attempt, **known).update(**grown):
        raise IntegrityError("the log grew meanwhile")
    task.log_bytes, task.log_lines = grown["log_bytes"], grown["log_lines"]


def read_log(task: Task, *, offset: int = 0, limit: int | None = None) -> Iterator[bytes]:
    """The committed bytes of the current attempt from `offset`, in pieces, at most `limit` bytes.

    A log of any size costs the memory of two large chunks, and one of many small chunks few
    queries.
    """
    for piece in read_pieces(task, offset=offset, limit=limit):
        yield piece.data


def read_pieces(task: Task, *, offset: int = 0, limit: int | None = None) -> Iterator[LogPiece]:
    """The same, each piece with its place and its times."""
    end = task.log_bytes if limit is None else min(task.log_bytes, offset + limit)
    position = max(offset, 0)
    chunks = LogChunk.objects.filter(task=task, attempt=task.attempt)
    while position < end:
        begin = position
        for chunk in _window(chunks, position, end):
            piece = piece_of(chunk, position, end)
            if chunk.offset > position or not piece.data:
                return
            position += len(piece.data)
            yield piece
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
