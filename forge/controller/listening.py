"""Since when runners could be heard, without a break and by a clock that nobody has set."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from django.conf import settings
from django.utils import timezone

from tasks.policies import CLOCK_DIFFERENCE

logger = logging.getLogger(__name__)

# In seconds. A step that waits for a silent broker takes four, however soon silence counts.
SHORTEST_BREAK = 5.0
_ANEW = "No runner is called silent, and no lease ended, before that was waited for anew."


class Moment(NamedTuple):
    """By a clock that nobody sets, in seconds, and by the host's."""

    monotonic: float
    now: datetime

    @classmethod
    def present(cls) -> Moment:
        return cls(time.monotonic(), timezone.now())

    def set_since(self, earlier: Moment) -> timedelta:
        """By how much the host's clock was set after that moment; forward is positive."""
        elapsed = timedelta(seconds=self.monotonic - earlier.monotonic)
        return self.now - earlier.now - elapsed


@dataclass(frozen=True)
class Break:
    """What ends the listening so far.

    elapsed: for how long nobody is known to have listened; None if nobody had before.
    set_by: by how much the clock was set meanwhile.
    """

    elapsed: timedelta | None
    set_by: timedelta

    @property
    def is_set(self) -> bool:
        return abs(self.set_by) > CLOCK_DIFFERENCE


def silence() -> timedelta:
    """How long a runner is not heard that counts as silent."""
    return timedelta(seconds=settings.FORGE_OFFLINE_SECONDS)


def whole_lease() -> timedelta:
    """After so long a lease that was given before has ended, whatever clock it was given by."""
    return timedelta(seconds=settings.FORGE_LEASE_SECONDS) + CLOCK_DIFFERENCE


def longest_pause() -> timedelta:
    """In a longer one a runner may have tried to be heard so often that it would be blamed."""
    return max(silence() / 2, timedelta(seconds=SHORTEST_BREAK))


class Listening:
    """What the rows say of times is compared with this host's clock, which may be set at any
    moment, as by NTP after the host was suspended. All that was written before looks older then, or
    younger, than it is: a runner that beat a second ago, or a lease that has a minute left.

    Whoever listens says so whenever the database has answered, within a turn too: a turn that has
    much to do is no break, and a process that was stopped in the middle of one is.
    """

    def __init__(self) -> None:
        self._since = 0.0
        self._last: Moment | None = None
        self._is_enough = False

    def look(self, moment: Moment) -> Break | None:
        """What has ended the listening since it was noted last, if anything."""
        if self._last is None:
            return Break(None, timedelta())
        elapsed = timedelta(seconds=moment.monotonic - self._last.monotonic)
        found = Break(elapsed, moment.set_since(self._last))
        return found if elapsed > longest_pause() or found.is_set else None

    def begin(self, moment: Moment, found: Break) -> None:
        """Listen anew from that moment on."""
        self._since, self._last, self._is_enough = moment.monotonic, moment, False
        if found.is_set:
            logger.warning(
                "The clock of this host was set %s by %.0f s. %s",
                "back" if found.set_by < timedelta() else "forward",
                abs(found.set_by.total_seconds()),
                _ANEW,
            )
        elif found.elapsed is not None:
            seconds = found.elapsed.total_seconds()
            logger.warning("This controller could hear nobody for %.0f s. %s", seconds, _ANEW)
        else:
            logger.info(
                "This controller listens for runners: none is called silent for %g s, and no lease "
                "ends for %g s.",
                silence().total_seconds(),
                whole_lease().total_seconds(),
            )

    def note(self, moment: Moment) -> None:
        """The database has answered since the last look, which has found no break."""
        self._last = moment
        if not self._is_enough and self.length(moment) >= whole_lease():
            self._is_enough = True
            logger.info(
                "This controller has listened for runners as long as a lease lasts: leases may end."
            )

    def length(self, moment: Moment) -> timedelta:
        """How long there was no break until then."""
        return timedelta(seconds=moment.monotonic - self._since)
