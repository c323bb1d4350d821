"""Keeps the broker's accounts equal to the rows, on every node, also after a restart."""

from __future__ import annotations

import threading
import time

from forge.controller.loop import Loop
from runners.nodes import Nodes
from runners.repair import Repair

# What changed in the rows was applied by whoever changed it; this is for when that failed.
FULL_SECONDS = 4.0


class AccountLoop(Loop):
    name = "accounts"
    period = 1.0

    def __init__(self, is_leading: threading.Event, is_closing: threading.Event) -> None:
        super().__init__(is_leading, is_closing)
        self._nodes = Nodes()
        self._repair = Repair()
        self._last_full = 0.0

    def turn(self) -> None:
        is_full = time.monotonic() - self._last_full > FULL_SECONDS
        self._repair.round(self._nodes.all(), everything=is_full)
        if is_full:
            self._last_full = time.monotonic()
