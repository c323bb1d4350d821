"""Reads what a supervisor tells the worker."""

from __future__ import annotations

import json
import os
import select
import time
from typing import Any


class StatusReader:
    """The worker's end of a status pipe: JSON objects, one a line. For one thread at a time.

    is_tree_ended: the supervisor was killed, and the fork server says that it has ended all that
    was below it. A pipe that ends with neither this nor an ending tells that both were killed.
    """

    is_tree_ended = False

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._buffer = b""
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def next(self, timeout: float | None) -> dict[str, Any] | None:
        """Return the next object, or None after `timeout` seconds; EOFError when none can come."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while b"\n" not in self._buffer:
            if not self._poll.poll(milliseconds_until(deadline)):
                return None
            chunk = os.read(self.descriptor, 65536)
            if not chunk:
                raise EOFError
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        told: dict[str, Any] = json.loads(line)
        if "tree_ended" in told:
            self.is_tree_ended = True
            raise EOFError
        return told

    def close(self) -> None:
        os.close(self.descriptor)


def milliseconds_until(deadline: float | None) -> float | None:
    """Return what `poll` wants for a deadline of the monotonic clock; None waits without end."""
    if deadline is None:
        return None
    # poll takes a C int; no wait in one piece needs more than a day.
    return min(max(0.0, deadline - time.monotonic()), 86400.0) * 1000
