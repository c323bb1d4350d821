"""Notices runners that went silent, and does for their tasks what their policies say."""

from __future__ import annotations

import threading
from collections.abc import Callable

from forge.controller.listening import Listening, Moment, silence, whole_lease
from forge.controller.loop import Loop
from tasks.clocks import mend_times
from tasks.reaping import end_waits, mark_silent


class ReaperLoop(Loop):
    """A runner is silent only if somebody could have heard it.

    After a restart of Forge, or an outage of its database, no runner has been heard for a while,
    and none of them is to blame: silence counts once the database has answered for as long as it
    takes. Until then no wait ends either: whoever is back may be about to say so. And no lease ends
    before there was time for a whole one, since the clock by which it was given may have been set.
    """

    name = "reaper"
    period = 1.0

    def __init__(
        self,
        is_leading: threading.Event,
        is_closing: threading.Event,
        *,
        present: Callable[[], Moment] = Moment.present,
    ) -> None:
        super().__init__(is_leading, is_closing)
        self._listening = Listening()
        self._present = present
        self._is_new = False

    def take_over(self) -> None:
        """The lead is another's no longer, who has minded the clock meanwhile. Thread-safe."""
        self._is_new = True

    def turn(self) -> None:
        if self._is_new:
            self._is_new, self._listening = False, Listening()
        # Not reached while the database is away: without it nobody leads.
        moment = self._present()
        found = self._listening.look(moment)
        if found is not None:
            mend_times(now=moment.now, set_by=found.set_by, elapsed=found.elapsed)
            self._listening.begin(moment, found)
        listened = self._listening.length(moment)
        if listened >= silence():
            mark_silent(now=moment.now, after=silence(), goes_on=self._goes_on)
            ends_leases = listened >= whole_lease()
            end_waits(now=moment.now, ends_leases=ends_leases, goes_on=self._goes_on)
        self._goes_on()

    def _goes_on(self) -> bool:
        """Whether what the turn took for true when it began still is, after another answer."""
        moment = self._present()
        if self._listening.look(moment) is not None:
            return False
        self._listening.note(moment)
        return self._is_leading.is_set()
