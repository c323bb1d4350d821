"""The worker's orders to the supervisor of one program."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runners.worker.supervision.process import StopStep


class Control:
    """Takes orders for one program, also before it runs. Any thread may call, and none waits.

    A start may take for ever, as where the program lies on a file system that does not answer. What
    is ordered meanwhile reaches the supervisor, which ends what it has begun to start.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._steps: tuple[StopStep, ...] | None = None
        self._until: float | None = None

    def extend(self, until: float) -> None:
        """Let it run until then, in boot seconds, if it has not been ended already."""
        with self._lock:
            self._until = until
            self._send_lease()

    def stop(self, steps: Sequence[StopStep]) -> None:
        """Order the steps, then KILL; returns at once.

        The same steps again change nothing; other steps replace what is left of the first ones.
        After the end it does nothing.
        """
        ordered = tuple(steps)
        with self._lock:
            if ordered != self._steps:
                self._steps = ordered
                self._send_steps()

    def open(self, descriptor: int) -> None:
        """Reach a supervisor that has its request, from now on, and tell it what came before."""
        with self._lock:
            self._descriptor = descriptor
            self._send_lease()
            self._send_steps()

    def detach(self) -> int | None:
        """Send nothing more; returns the descriptor, which the caller closes."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, None
        return descriptor

    def _send_lease(self) -> None:
        if self._until is not None:
            self._send({"lease": self._until})

    def _send_steps(self) -> None:
        if self._steps is not None:
            steps = [[int(step.signal), step.grace_seconds] for step in self._steps]
            self._send({"stop": steps})

    def _send(self, order: object) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(BrokenPipeError):  # It has left; its ending tells how.
                write_line(self._descriptor, order)


def write_line(descriptor: int, value: object) -> None:
    """Write a value as one line of JSON; BrokenPipeError if nobody will read it."""
    data = memoryview(json.dumps(value).encode() + b"\n")
    while data:
        data = data[os.write(descriptor, data) :]
