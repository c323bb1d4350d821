"""How a tree is brought to its end: steps in time, and sentences about what was done."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from .descendants import Reached, signal_below

_SHORTEST_PAUSE = 0.002
_LONGEST_PAUSE = 0.2
# The longest grace of each step once the program itself has ended: the rest is what it left.
_LEFTOVER_GRACE = 5.0
_JOB_STOPS = {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}


class Stopping:
    """One stop in progress below this process: signals with graces in seconds, at last KILL.

    `tell` is called with each step before it is done, KILL excepted, so that it stands in the log
    before what the processes write because of it: `signal`, its name; `count`, how many it goes to;
    `ended`, how many of those that got the one before are gone; `grace`, how long they have;
    `seconds`, since the first step; `cause`, as given to `begin`.
    """

    def __init__(self, tell: Callable[[dict[str, Any]], None] = lambda step: None) -> None:
        self._tell = tell
        self._reached: set[int] = set()
        self._cause = ""
        self._longest_grace = float("inf")
        self._steps: list[tuple[int, float]] = []
        self._began_at: float | None = None
        self._due_at = 0.0
        self._is_killing = False
        self._killed = Reached()
        self._kill_delay = ""
        self._pause = _SHORTEST_PAUSE
        self._sentences: list[str] = []

    @property
    def has_begun(self) -> bool:
        return self._began_at is not None

    def begin(self, steps: list[tuple[int, float]], cause: str) -> None:
        """Start with these steps now, in place of what is left of earlier ones."""
        self._cause = cause
        self._steps = [*steps, (signal.SIGKILL, 0.0)]
        self._due_at = time.monotonic()
        if self._began_at is None:
            self._began_at = self._due_at

    def advance(self) -> set[int]:
        """Do what is due; return the pids that got a signal, with KILL only at their first."""
        if self._is_killing:
            return self._kill()
        if not self.has_begun or time.monotonic() < self._due_at:
            return set()
        number, grace = self._steps.pop(0)
        grace = min(grace, self._longest_grace)
        self._due_at = time.monotonic() + grace
        if number == signal.SIGKILL:
            self._is_killing = True
            self._kill_delay = self._delay()
            # Told afterwards: nothing is written because of it, and a tree that forks has no time.
            reached = self._kill()
            self._report(number, reached, grace)
            return reached
        # Signal 0 reaches whom the signal will reach, and does nothing to them.
        self._report(number, signal_below(os.getpid(), 0).signalled, grace)
        self._reached = self._send(number)
        return self._reached

    def hasten(self) -> None:
        """The program itself has ended: what it left has a few seconds a step."""
        self._longest_grace = _LEFTOVER_GRACE
        self._due_at = min(self._due_at, time.monotonic() + _LEFTOVER_GRACE)

    def seconds_to_wait(self) -> float | None:
        """Return how long nothing is due unless a child exits; None: for ever."""
        if self._is_killing:
            return self._pause
        return max(0.0, self._due_at - time.monotonic()) if self.has_begun else None

    def sentences(self) -> list[str]:
        told = list(self._sentences)
        if self._killed.signalled:
            count = _count(self._killed.signalled)
            told.append(f"SIGKILL sent to {count}{self._kill_delay}")
        if self._killed.refused:
            count = _count(self._killed.refused)
            told.append(f"{count} of another user could not be signalled and ended by itself")
        return told

    def seconds(self) -> float | None:
        """Since the first step; None without one."""
        return None if self._began_at is None else round(time.monotonic() - self._began_at, 3)

    def _report(self, number: int, alive: set[int], grace: float) -> None:
        self._tell(
            {
                "signal": signal.Signals(number).name,
                "count": len(alive),
                "ended": len(self._reached - alive),
                "grace": grace,
                "seconds": self.seconds(),
                "cause": self._cause,
            }
        )

    def _send(self, number: int) -> set[int]:
        delay = self._delay()
        reached = signal_below(os.getpid(), number).signalled
        if number not in _JOB_STOPS:
            # A stopped process takes a signal only once it is continued.
            signal_below(os.getpid(), signal.SIGCONT)
        if reached:
            name = signal.Signals(number).name
            self._sentences.append(f"{name} sent to {_count(reached)}{delay}")
        return reached

    def _kill(self) -> set[int]:
        reached = signal_below(os.getpid(), signal.SIGKILL)
        new = reached.signalled - self._killed.signalled
        if new:
            self._pause = 0.0  # The tree still grows: look again at once.
        else:
            self._pause = min(max(_SHORTEST_PAUSE, self._pause * 2), _LONGEST_PAUSE)
        self._killed.add(reached)
        return new

    def _delay(self) -> str:
        seconds = round(time.monotonic() - (self._began_at or 0.0), 1)
        return f" after {seconds:g} s" if seconds else ""


def _count(pids: set[int]) -> str:
    return "1 process" if len(pids) == 1 else f"{len(pids)} processes"
