"""When the bytes of a log were written: what runners say of it, and what is told to readers.

A runner says how old bytes were when it sent them. That is measured by its steady clock, so that a
wrong date on a host changes nothing; Forge counts it back from its own clock. Of bytes of which
the runner says nothing (an older worker, one that was started again, the end of a log above its
limit) Forge knows when it received them, and calls it that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from tasks.models import LogChunk

# Of one chunk: a log's times must not take more room than the log.
MAXIMUM_KEPT = 128
CLOSEST_MILLISECONDS = 50

# Where in the data bytes begin, and their age in seconds; None: nobody knows.
Age = tuple[int, float | None]
# The same as it is stored, in milliseconds; a list of two, for JSON.
Kept = list[int | None]


def kept_ages(ages: Iterable[Age], *, begin: int, size: int, most: float) -> list[Kept] | None:
    """What is kept of `ages` for `size` bytes from `begin` on; None for nothing.

    Nothing is older than `most` seconds, and nothing younger than what stands before it.
    """
    found: list[Kept] = []
    for offset, age in ages:
        if offset >= begin + size:
            break
        kept: Kept = [max(offset - begin, 0), None if age is None else _milliseconds(age, most)]
        if found and (found[-1][0] == kept[0] or offset <= begin):
            found[-1] = kept
        elif not found or not _is_close(found[-1][1], kept[1]):
            found.append(kept)
    step = -(-len(found) // MAXIMUM_KEPT) or 1
    return found[::step] or None


def _milliseconds(age: float, most: float) -> int:
    return round(min(age, most) * 1000)


def _is_close(before: int | None, after: int | None) -> bool:
    """Whether the one's time will do for the other, or would come before it."""
    if before is None or after is None:
        return before is after
    return before - after < CLOSEST_MILLISECONDS


@dataclass(frozen=True)
class Time:
    """Of the bytes from `offset` on, counted in the whole log: milliseconds since 1970.

    `is_receipt`: then Forge received them; when they were written is not known.
    """

    offset: int
    at: int
    is_receipt: bool


@dataclass(frozen=True)
class LogPiece:
    """Some bytes of a log, from byte `offset`; before them are `lines_before` line ends."""

    offset: int
    data: bytes
    lines_before: int
    times: tuple[Time, ...]


def piece_of(chunk: LogChunk, begin: int, end: int) -> LogPiece:
    """What a chunk holds of the log's bytes from `begin` to `end`."""
    skip = max(begin - chunk.offset, 0)
    whole = bytes(chunk.data)
    data = whole[skip : max(end - chunk.offset, 0)]
    lines = chunk.lines_before + (whole.count(b"\n", 0, skip) if skip else 0)
    times = tuple(_times_of(chunk, skip, skip + len(data)))
    return LogPiece(chunk.offset + skip, data, lines, times)


def _times_of(chunk: LogChunk, begin: int, end: int) -> Iterator[Time]:
    received = _since_1970(chunk.received_at)
    marks: list[tuple[int, int | None]] = [(0, None), *map(tuple, chunk.ages or ())]
    for (offset, age), (until, _) in zip(marks, [*marks[1:], (end, None)], strict=True):
        if until > begin and offset < min(until, end):
            at = received - (age or 0)
            yield Time(chunk.offset + max(offset, begin), at, is_receipt=age is None)


def _since_1970(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def within(times: list[Time], begin: int, end: int) -> Iterator[Time]:
    """Those that hold for some of the log's bytes from `begin` to `end`."""
    for time, following in zip(times, [*times[1:], None], strict=True):
        if time.offset < end and (following is None or following.offset > begin):
            yield time
