"""Whether somebody came lately with a token that nobody has: for who adds a runner.

Kept in the broker, because any of several web processes may be the one that refused it, and for a
while only. Neither token nor sender is kept: the host may be anybody's.
"""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import redis

from runners.broker import administrator

KEPT = timedelta(minutes=10)
# Of a flood of wrong tokens the broker is to notice nothing.
QUIET_SECONDS = 2.0


class Knocks:
    """Of one kind of token. Thread-safe.

    key: in the broker, and not under the prefix of what runners use: the watch calls what it finds
    there nobody's.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._lock = threading.Lock()
        self._due_at = 0.0

    def note(self) -> None:
        """An unknown token was refused just now."""
        with self._lock:
            now = time.monotonic()
            if now < self._due_at:
                return
            self._due_at = now + QUIET_SECONDS
        try:
            administrator().set(self._key, 1, ex=KEPT)
        except redis.RedisError:
            return  # a hint for a page, and no more

    def last(self) -> timedelta | None:
        """How long ago the last one was; None if it was longer ago than KEPT, or is not known."""
        try:
            left = administrator().pttl(self._key)
        except redis.RedisError:
            return None
        return KEPT - timedelta(milliseconds=int(left)) if int(left) > 0 else None


knocks = Knocks("forge-unknown-token")
registration_knocks = Knocks("forge-unknown-registration-token")
