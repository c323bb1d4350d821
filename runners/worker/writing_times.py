"""When which bytes of a log were written, as far as the worker that read them remembers.

It is kept in memory, in a bounded number of marks: what a worker does not know, after a restart
or where a log was cut, it does not claim.
"""

from __future__ import annotations

import bisect
import threading
from itertools import pairwise

# Bytes that came closer together than that share a time.
GRANULARITY_SECONDS = 0.1
MAXIMUM_MARKS = 4096

# Where the bytes begin, counted from those that are asked for, and how old they are, in seconds;
# None: nobody knows.
Age = tuple[int, float | None]


class WritingTimes:
    """One thread notes, another reads. Times are those of `time.monotonic()`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offsets: list[int] = []
        self._times: list[float | None] = []
        self._granularity = GRANULARITY_SECONDS

    def note(self, offset: int, now: float | None) -> None:
        """The bytes from `offset` on were written at `now`; with None, nobody knows when."""
        with self._lock:
            last = self._times[-1] if self._times else None
            if now is not None and last is not None and now - last < self._granularity:
                return
            if now is None and self._times and last is None:
                return
            self._offsets.append(offset)
            self._times.append(now)
            if len(self._offsets) > MAXIMUM_MARKS:
                self._thin_out()

    def _thin_out(self) -> None:
        """Half of the marks, and from here on half as many."""
        kept = [
            index
            for index, time in enumerate(self._times)
            if index % 2 == 0 or time is None or self._times[index - 1] is None
        ]
        self._offsets = [self._offsets[index] for index in kept]
        self._times = [self._times[index] for index in kept]
        self._granularity *= 2

    def forget(self, upto: int) -> None:
        """The first `upto` bytes are of no interest any more."""
        with self._lock:
            first = bisect.bisect_right(self._offsets, upto) - 1
            if first > 0:
                del self._offsets[:first], self._times[:first]

    def ages(self, begin: int, end: int, *, now: float, most: int) -> tuple[Age, ...]:
        """Of the bytes from `begin` to `end`: at most `most`, ascending."""
        with self._lock:
            first = max(bisect.bisect_right(self._offsets, begin) - 1, 0)
            last = bisect.bisect_left(self._offsets, end)
            marks = list(zip(self._offsets[first:last], self._times[first:last], strict=True))
        found = [
            (max(offset - begin, 0), None if time is None else max(now - time, 0.0))
            for offset, time in marks
        ]
        step = -(-len(found) // most) or 1
        return tuple(_spread(found, step))


def _spread(ages: list[Age], step: int) -> list[Age]:
    """Every so manieth, and each with which knowledge begins or ends."""
    if step == 1:
        return ages
    edges = {
        index
        for index, (one, other) in enumerate(pairwise(ages), start=1)
        if (one[1] is None) != (other[1] is None)
    }
    return [age for index, age in enumerate(ages) if index % step == 0 or index in edges]
