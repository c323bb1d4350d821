"""Watches what runners do to the broker, a few times a second."""

from __future__ import annotations

import threading

from django.conf import settings

from forge.controller.loop import Loop
from runners.broker import administrator
from runners.watch import Watch


class WatchLoop(Loop):
    name = "watch"
    period = settings.FORGE_BROKER_WATCH_SECONDS

    def __init__(self, is_leading: threading.Event, is_closing: threading.Event) -> None:
        super().__init__(is_leading, is_closing)
        self._watch = Watch(administrator())

    def turn(self) -> None:
        self._watch.look()
