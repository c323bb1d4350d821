"""The log of what was refused to whom: by name, a line at a time, never a flood of them.

Of each sender and kind one line is written at once and then one every ten seconds, with how many
there were in between. Senders without a token share a small number of lines a second.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from runners.models import Runner
from runners.quotas import Bucket
from runners.worker.fields import printable

logger = logging.getLogger(__name__)

QUIET_SECONDS = 10.0
MAXIMUM_KEYS = 2000
STRANGERS_PER_SECOND = 1.0
STRANGERS_AT_ONCE = 20.0
MAXIMUM_DETAIL = 300


@dataclass
class _Line:
    due_at: float = 0.0
    suppressed: int = 0


class RefusalLog:
    """Thread-safe; its memory is bounded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: OrderedDict[tuple[str, str], _Line] = OrderedDict()
        self._strangers = Bucket(STRANGERS_PER_SECOND, STRANGERS_AT_ONCE)
        self._strangers_suppressed = 0

    def of_runner(self, runner: Runner, code: str, detail: str, *, level: int) -> None:
        """Something was refused to a runner that is known."""
        self._write(f"runner {runner.name} ({runner.pk})", code, detail, level, is_known=True)

    def of_stranger(self, network: str, code: str, detail: str) -> None:
        """Something was refused to a sender without a token that is known."""
        self._write(f"sender {network}", code, detail, logging.WARNING, is_known=False)

    def _write(self, who: str, code: str, detail: str, level: int, *, is_known: bool) -> None:
        with self._lock:
            suppressed = self._claim_line(who, code, is_known=is_known)
        if suppressed is None:
            return
        more = f" ({suppressed} more were not logged)" if suppressed else ""
        text = printable(detail, MAXIMUM_DETAIL)
        logger.log(level, "refused %s: %s: %s%s", printable(who, 120), code, text, more)

    def _claim_line(self, who: str, code: str, *, is_known: bool) -> int | None:
        """How many were not logged before this one; None if this one is not logged either."""
        now = time.monotonic()
        line = self._line(who, code)
        if now < line.due_at:
            line.suppressed += 1
            return None
        if not is_known and self._strangers.wait_before(1.0):
            self._strangers_suppressed += 1
            return None
        suppressed = line.suppressed + (0 if is_known else self._strangers_suppressed)
        if not is_known:
            self._strangers_suppressed = 0
        line.due_at, line.suppressed = now + QUIET_SECONDS, 0
        return suppressed

    def _line(self, who: str, code: str) -> _Line:
        key = (who, code)
        if key not in self._lines and len(self._lines) >= MAXIMUM_KEYS:
            self._lines.popitem(last=False)
        line = self._lines.setdefault(key, _Line())
        self._lines.move_to_end(key)
        return line


refusals = RefusalLog()
