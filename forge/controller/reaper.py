"""Notices runners that went silent, and ends the wait for their tasks."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from forge.controller.loop import Loop
from tasks.reaping import give_up, mark_silent


class ReaperLoop(Loop):
    name = "reaper"
    period = 1.0

    def turn(self) -> None:
        now = timezone.now()
        mark_silent(now=now, after=timedelta(seconds=settings.FORGE_OFFLINE_SECONDS))
        give_up(now=now, after=timedelta(seconds=settings.FORGE_UNREACHABLE_SECONDS))
