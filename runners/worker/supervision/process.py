"""A program under supervision, as the worker sees it."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from runners.worker.supervision.control import Control
from runners.worker.supervision.errors import SupervisorLostError
from runners.worker.supervision.status import StatusReader

# How long one look at what is left of a tree takes, whose supervisor and fork server are dead.
ORPHANS_SECONDS = 0.01


@dataclass(frozen=True)
class StopStep:
    """One step of a stop: a signal to every process, then this long until the next step."""

    signal: signal.Signals
    grace_seconds: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.grace_seconds) and self.grace_seconds >= 0):
            raise ValueError(f"a grace is a number of seconds, not {self.grace_seconds}")


@dataclass(frozen=True)
class StepDone:
    """One step of a stop, told before it is done.

    signal: its name, `SIGINT`. count: how many processes get it. ended: how many of those that got
    the step before are gone. grace: seconds until the next step. seconds: since the first one.
    cause: `order`, `lease`, or `leftovers` of a program that has ended.
    """

    signal: str
    count: int
    ended: int
    grace: float
    seconds: float
    cause: str


@dataclass(frozen=True)
class Terms:
    """How long a program may run without a word from this worker, in boot seconds.

    start_by: it is not started later than this. until: from then on it is stopped by `steps` and
    KILL, also while this worker is suspended; None: never.
    """

    start_by: float
    until: float | None
    steps: tuple[StopStep, ...] = ()


@dataclass(frozen=True)
class Ending:
    """How a program ended, told after the last process of its tree was gone.

    exit_code: of the program; None if a signal ended it.
    signal: the number of the signal that ended the program, else None.
    leftovers: how many processes the program left behind that had to be ended.
    steps: plain sentences of what was sent, in order: "SIGINT sent to 3 processes".
    seconds: from the first of them to the end; None if there was none.
    lease_ended: whether its `Terms` ended the program; not if it had ended by itself before.
    """

    exit_code: int | None
    signal: int | None
    leftovers: int
    steps: tuple[str, ...]
    seconds: float | None = field(default=None, compare=False)
    lease_ended: bool = False


class SupervisedProcess:
    """A running program and everything below it. All methods may be called from any thread.

    pid: of the program.
    has_begun: its start had come to an end before it was to be ended. If not, it has not run,
        or only while the ending was on its way.
    begun_at: when that was, in boot seconds.
    output: read end of the pipe that carries the program's stdout and stderr in the order of its
        writes. The caller reads until end of file and closes it.

    Call `wait` until it returns an `Ending` or raises; this is what frees the other descriptors.
    """

    def __init__(
        self,
        pid: int,
        *,
        has_begun: bool = True,
        begun_at: float,
        output: int,
        control: Control,
        status: StatusReader,
        on_end: Callable[[SupervisedProcess], None],
        end_orphans: Callable[[], bool] = lambda: True,
        on_step: Callable[[StepDone], None] = lambda step: None,
    ) -> None:
        self.pid = pid
        self.has_begun = has_begun
        self.begun_at = begun_at
        self.output = output
        self._control = control
        self._status = status
        self._status_lock = threading.Lock()
        self._outcome: Ending | str | None = None
        self._on_end = on_end
        self._end_orphans = end_orphans
        self._on_step = on_step

    @property
    def news(self) -> int:
        """A descriptor that becomes readable when `wait(0)` has something to do."""
        return self._status.descriptor

    def extend(self, until: float) -> None:
        """As of its Control."""
        self._control.extend(until)

    def stop(self, steps: Sequence[StopStep]) -> None:
        """As of its Control."""
        self._control.stop(steps)

    def wait(self, timeout: float | None = None) -> Ending | None:
        """Return the ending once every process of the tree is gone; None after `timeout` seconds.

        Steps of a stop are told to `on_step` meanwhile, in this thread. Raises SupervisorLostError
        if the supervisor itself was killed. The fork server has ended the tree by then; if that was
        killed as well, this does it.
        """
        deadline = None if timeout is None else time.monotonic() + max(0.0, timeout)
        if not self._status_lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            return None
        try:
            if self._outcome is None:
                self._outcome = self._read_outcome(deadline)
                if self._outcome is None:
                    return None
                self._release()
        finally:
            self._status_lock.release()
        if isinstance(self._outcome, str):
            raise SupervisorLostError(self._outcome)
        return self._outcome

    def _read_outcome(self, deadline: float | None) -> Ending | str | None:
        while True:
            remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                told = self._status.next(remaining)
            except EOFError:
                if not (self._status.is_tree_ended or self._end_orphans()):
                    if remaining is not None and remaining <= ORPHANS_SECONDS:
                        return None
                    continue
                return f"the supervisor of process {self.pid} died without a report"
            if told is None:
                return None
            if "step" not in told:
                return Ending(**{**told, "steps": tuple(told["steps"])})
            self._on_step(StepDone(**told["step"]))

    def _release(self) -> None:
        descriptor = self._control.detach()
        if descriptor is not None:
            os.close(descriptor)
        self._status.close()
        self._on_end(self)
