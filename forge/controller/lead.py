"""The lead as this process knows it: good until its term ends, also when nobody looked."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta

from forge.controller.listening import Moment

# By so much a clock has to be set within a round to be noticed; no two clocks tick the same.
NOTICED = timedelta(seconds=1)
_LEAST = timedelta(microseconds=1)


class Lead(threading.Event):
    """Set while this controller leads.

    A process that was stopped for a while, and goes on, finds its term over by itself before it
    has asked anybody: the other one leads then.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ends_at = 0.0

    def keep(self, seconds: float, *, since: float) -> None:
        """The lead is this process's until `seconds` after `since`, a monotonic time."""
        self._ends_at = since + seconds
        self.set()

    def is_set(self) -> bool:
        return super().is_set() and time.monotonic() < self._ends_at


class Standstill:
    """Notices that nobody renews the lead, without trust in any clock that can be set.

    Its holder does that every second. By the clock of a host that is an hour ahead the term of a
    controller that has died would last for that hour, and nobody would lead. And where the clock
    of the host of two controllers is set forward, the term of the one that leads looks over to the
    other one, which knows nothing of what was said of times before.
    """

    def __init__(self) -> None:
        self._end: datetime | None = None
        self._since = 0.0
        self._last: Moment | None = None
        # Nobody has moved the end since this host's clock was set.
        self._is_doubted = False

    def judge(self, end: datetime | None, moment: Moment, *, seconds: float) -> datetime:
        """The time by which the term is over or not that the row says ends at `end`.

        A term that nobody has moved for so many seconds is over, whatever clock it was told by.
        """
        if end != self._end:
            self._end, self._since, self._is_doubted = end, moment.monotonic, False
        last, self._last = self._last, moment
        if last is not None and abs(moment.set_since(last)) > NOTICED:
            self._is_doubted = True
        if end is None:
            return moment.now
        if moment.monotonic - self._since >= seconds:
            return max(moment.now, end)
        return min(moment.now, end - _LEAST) if self._is_doubted else moment.now
