"""The lead as this process knows it: good until its term ends, also when nobody looked."""

from __future__ import annotations

import threading
import time
from datetime import datetime


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
    """Notices that nobody renews the lead, without a look at any clock that can be set.

    Its holder does that every second. By the clock of a host that is an hour ahead the term of a
    controller that has died would last for that hour, and nobody would lead.
    """

    def __init__(self) -> None:
        self._end: datetime | None = None
        self._since = 0.0

    def look(self, end: datetime | None, *, monotonic: float, seconds: float) -> datetime | None:
        """`end`, which the row says now, if it has said the same for so long; otherwise None."""
        if end != self._end:
            self._end, self._since = end, monotonic
        return end if monotonic - self._since >= seconds else None
