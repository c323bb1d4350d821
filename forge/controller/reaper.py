"""Notices runners that went silent, and does for their tasks what their policies say."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from forge.controller.loop import Loop
from tasks.reaping import end_waits, mark_silent


class ReaperLoop(Loop):
    """A runner is silent only if somebody could have heard it.

    After a restart of Forge, or an outage of its database, no runner has been heard for a while,
    and none of them is to blame: silence counts once turns have succeeded for as long as it takes.
    """

    name = "reaper"
    period = 1.0

    def __init__(self, is_leading: threading.Event, is_closing: threading.Event) -> None:
        super().__init__(is_leading, is_closing)
        self._listens_since = self._last_turn = 0.0

    def turn(self) -> None:
        silence = timedelta(seconds=settings.FORGE_OFFLINE_SECONDS)
        begin = time.monotonic()
        if begin - self._last_turn > 5 * self.period:
            self._listens_since = begin
        now = timezone.now()
        if begin - self._listens_since >= silence.total_seconds():
            mark_silent(now=now, after=silence)
        end_waits(now=now)
        # Not reached while the database is away.
        self._last_turn = begin
