"""Since when runners could be heard, without a break and by a clock that nobody has set."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from tasks.policies import CLOCK_DIFFERENCE

logger = logging.getLogger(__name__)

# A longer pause between two turns, in seconds, is one in which nobody may have been heard.
LONGEST_PAUSE = 5.0


class Listening:
    """What the rows say of times is compared with this host's clock, which may be set at any
    moment, as by NTP after the host was suspended. All that was written before looks older then, or
    younger, than it is: a runner that beat a second ago, or a lease that has a minute left.
    """

    def __init__(self) -> None:
        self._since = 0.0
        self._last: tuple[float, datetime] | None = None

    def go_on(self, *, monotonic: float, now: datetime) -> timedelta:
        """How long there was neither a pause nor another time until this turn."""
        if self._last is None or monotonic - self._last[0] > LONGEST_PAUSE:
            self._since = monotonic
        else:
            self._mind_clock(*self._last, monotonic, now)
        return timedelta(seconds=monotonic - self._since)

    def note(self, *, monotonic: float, now: datetime) -> None:
        """The turn that began then has succeeded."""
        self._last = monotonic, now

    def _mind_clock(self, before: float, then: datetime, monotonic: float, now: datetime) -> None:
        set_by = now - then - timedelta(seconds=monotonic - before)
        if abs(set_by) <= CLOCK_DIFFERENCE:
            return
        self._since = monotonic
        logger.warning(
            "The clock of this host was set %s by %.0f s. No runner is called silent, and no lease "
            "ended, before that was waited for anew.",
            "back" if set_by < timedelta() else "forward",
            abs(set_by.total_seconds()),
        )
