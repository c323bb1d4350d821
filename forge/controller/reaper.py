"""Notices runners that went silent, and does for their tasks what their policies say."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta

from django.conf import settings
from django.utils import timezone

from forge.controller.listening import Listening
from forge.controller.loop import Loop
from tasks.policies import CLOCK_DIFFERENCE
from tasks.reaping import end_waits, mark_silent


class ReaperLoop(Loop):
    """A runner is silent only if somebody could have heard it.

    After a restart of Forge, or an outage of its database, no runner has been heard for a while,
    and none of them is to blame: silence counts once turns have succeeded for as long as it takes.
    Until then no wait ends either: whoever is back may be about to say so. And no lease ends before
    there was time for a whole one, since the clock by which it was given may have been set.
    """

    name = "reaper"
    period = 1.0

    def __init__(self, is_leading: threading.Event, is_closing: threading.Event) -> None:
        super().__init__(is_leading, is_closing)
        self._listening = Listening()

    def turn(self) -> None:
        self.turn_at(monotonic=time.monotonic(), now=timezone.now())

    def turn_at(self, *, monotonic: float, now: datetime) -> None:
        """The turn of that moment, by a clock that nobody sets and by the host's."""
        silence = timedelta(seconds=settings.FORGE_OFFLINE_SECONDS)
        lease = timedelta(seconds=settings.FORGE_LEASE_SECONDS) + CLOCK_DIFFERENCE
        listened = self._listening.go_on(monotonic=monotonic, now=now)
        if listened >= silence:
            mark_silent(now=now, after=silence)
            end_waits(now=now, ends_leases=listened >= lease)
        # Not reached while the database is away, and no turn begins: without it nobody leads.
        self._listening.note(monotonic=monotonic, now=now)
