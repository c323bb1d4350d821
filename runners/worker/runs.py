"""What runs on this worker at the moment."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from runners.worker.execution import Run
from runners.worker.protocol import TaskRef

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Order:
    reason: str
    is_forced: bool


class Runs:
    """By task and attempt; iterates over a copy, the oldest first. Thread-safe.

    slots: how many may run at once. What runs above that, after it was lowered, comes to its end.
    """

    def __init__(self) -> None:
        self.slots = 1
        self._lock = threading.Lock()
        self._runs: dict[tuple[int, int], Run] = {}
        # Of attempts that are being claimed: the order to stop that has overtaken the answer.
        self._expected: dict[tuple[int, int], _Order | None] = {}

    def resize(self, slots: int) -> None:
        if slots != self.slots:
            logger.warning("Tasks run here at once from now on: %d, not %d.", slots, self.slots)
            self.slots = slots

    @contextmanager
    def expecting(self, task: int, attempt: int) -> Iterator[None]:
        """A stop that comes before the attempt is here is kept for it, so that it never starts."""
        with self._lock:
            self._expected[task, attempt] = None
        try:
            yield
        finally:
            with self._lock:
                self._expected.pop((task, attempt), None)

    def add(self, run: Run) -> None:
        key = run.entry.task, run.entry.attempt
        with self._lock:
            self._runs[key] = run
            order = self._expected.get(key)
        if order is not None:
            run.stop(order.reason, force=order.is_forced)

    def asked_for(self) -> list[int]:
        """The tasks that are being claimed, whose answers are out."""
        with self._lock:
            return sorted({task for task, attempt in self._expected.keys() - self._runs.keys()})

    def remove(self, run: Run) -> None:
        with self._lock:
            self._runs.pop((run.entry.task, run.entry.attempt), None)

    def get(self, task: int, attempt: int) -> Run | None:
        with self._lock:
            return self._runs.get((task, attempt))

    def __iter__(self) -> Iterator[Run]:
        with self._lock:
            return iter(list(self._runs.values()))

    def renew(self, held: Iterable[TaskRef], *, sent: float, seconds: float) -> None:
        """The leases of these were renewed by the answer to a heartbeat of that moment."""
        for reference in held:
            run = self.get(reference.task, reference.attempt)
            if run is not None:
                run.renew(sent=sent, seconds=seconds)

    def stop(self, task: int, attempt: int, reason: str, *, force: bool = False) -> bool:
        """Stop one attempt, by its own steps or by force; False if it is not here."""
        key = task, attempt
        with self._lock:
            run = self._runs.get(key)
            if run is None:
                if key in self._expected:
                    self._expected[key] = _Order(reason, is_forced=force)
                return key in self._expected
        run.stop(reason, force=force)
        return True

    def stop_all(self, reason: str, *, force: bool = False) -> None:
        for run in self:
            run.stop(reason, force=force)
