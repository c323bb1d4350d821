"""The lead as this process knows it: good until its term ends, also when nobody looked."""

from __future__ import annotations

import threading
import time


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
