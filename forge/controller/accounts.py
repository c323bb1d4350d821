"""Keeps the broker's accounts equal to the rows, also after a restart that lost them."""

from __future__ import annotations

import logging
import time

from forge.controller.loop import Loop
from runners import accounts

logger = logging.getLogger(__name__)

# Applying every account again corrects edits by hand; 1,000 accounts take 0.08 s.
FULL_SECONDS = 15.0


class AccountLoop(Loop):
    name = "accounts"
    period = 1.0

    _last_full = 0.0

    def turn(self) -> None:
        is_full = time.monotonic() - self._last_full > FULL_SECONDS
        changed = accounts.reconcile(everything=is_full)
        if is_full:
            self._last_full = time.monotonic()
        elif changed:
            logger.info("%d broker accounts were missing or unexplained; repaired", changed)
