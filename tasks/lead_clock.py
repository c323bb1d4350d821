"""Whether the clock of this web process's host agrees with that of the controller that leads.

What the one writes of times the other believes: leases, and when a runner was heard.
"""

from __future__ import annotations

import logging
import threading
import time
from datetime import datetime, timedelta

from django.utils import timezone

from tasks.models import Leadership
from tasks.policies import CLOCK_DIFFERENCE

logger = logging.getLogger(__name__)

# How long the lead lasts that a controller takes or keeps, which it does every second.
TERM = timedelta(seconds=4)
# How often the two are compared, and how often that they differ is said, in seconds.
LOOK_SECONDS = 5.0
QUIET_SECONDS = 60.0


class LeadClock:
    """Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: tuple[float, datetime | None] | None = None
        self._said_at: float | None = None
        # The last comparison found that the two differ. One alone may be of an end that was
        # written before this host's clock was set.
        self._is_doubted = False

    def look(self) -> None:
        """Compare, if that was not done lately, and say in the log by how much the two differ."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            monotonic = time.monotonic()
            if self._last is None or monotonic - self._last[0] >= LOOK_SECONDS:
                self._compare(monotonic)
        finally:
            self._lock.release()

    def _compare(self, monotonic: float) -> None:
        end = Leadership.objects.values_list("expires_at", flat=True).first()
        last, self._last = self._last, (monotonic, end)
        # Of an end that nobody moves, only its holder could say when it was written.
        if last is None or end is None or end == last[1]:
            return
        ahead = end - TERM - timezone.now()
        since = timedelta(seconds=time.monotonic() - last[0])
        # It was written between the two looks. Whoever gives up the lead leaves no term.
        is_behind = ahead > CLOCK_DIFFERENCE
        was_doubted = self._is_doubted
        self._is_doubted = is_behind or ahead + since + TERM < -CLOCK_DIFFERENCE
        if was_doubted and self._is_doubted:
            self._say(ahead if is_behind else -ahead - since, is_behind, monotonic)

    def _say(self, difference: timedelta, is_behind: bool, monotonic: float) -> None:
        if self._said_at is not None and monotonic - self._said_at < QUIET_SECONDS:
            return
        self._said_at = monotonic
        logger.warning(
            "The clock of this host is about %.0f s %s that of the leading controller's host. Set "
            "both right, with NTP: until then tasks may be given up while they run, and run twice.",
            difference.total_seconds(),
            "behind" if is_behind else "ahead of",
        )


lead_clock = LeadClock()
