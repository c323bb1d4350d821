"""What signals ask of a worker: to drain, to stop its tasks, to kill them.

TERM or Ctrl-C drains, once more stops the tasks by their own steps, QUIT kills them. Celery's own
handlers would end the pool under running tasks; these only tell the agent, in a thread, because a
handler must not wait for a lock that its own thread may hold.
"""

from __future__ import annotations

import logging
import queue
import signal
import threading
import time
from typing import Any

from celery.worker import state

from runners.worker.agent import Agent
from runners.worker.consumer import waker
from runners.worker.execution import Run
from runners.worker.fields import printable

logger = logging.getLogger(__name__)

NOTE_SECONDS = 30.0
NAMED = 5
REASON = "The runner's worker was shut down."


class Shutdown(threading.Thread):
    """Takes orders from signal handlers and carries them out, one after the other."""

    def __init__(self, agent: Agent) -> None:
        super().__init__(name="forge-shutdown", daemon=True)
        self._agent = agent
        # Its `put` may be called from a signal handler that has interrupted another `put`.
        self._orders: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._is_draining = False

    def install(self) -> None:
        """Take over the signals; in the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, self._handle)
        self.start()

    def _handle(self, number: int, frame: Any) -> None:
        # Celery then stops consuming, waits for the pool, and exits with this status.
        if state.should_stop is None:
            state.should_stop = 0  # type: ignore[assignment]
        self._orders.put(number)
        waker.wake()

    def run(self) -> None:
        while True:
            try:
                number = self._orders.get(timeout=NOTE_SECONDS if self._is_draining else None)
            except queue.Empty:
                self._note()
                continue
            self._obey(number)

    def _obey(self, number: int) -> None:
        is_first = not self._is_draining
        self._is_draining = True
        self._agent.drain()
        if number == signal.SIGQUIT:
            logger.warning("Cold shutdown: the tasks are killed.")
            self._agent.end_all(REASON, force=True)
        elif not is_first:
            logger.warning("Told to end once more: the tasks are stopped by their steps.")
            self._agent.end_all(REASON)
        if is_first or number != signal.SIGQUIT:
            self._note()

    def _note(self) -> None:
        """Say in one line what is waited for."""
        runs = self._agent.runs()
        if not runs:
            logger.warning("Warm shutdown: nothing new is taken, and nothing runs.")
            return
        named = ", ".join(_words(run) for run in runs[:NAMED])
        more = f" and {len(runs) - NAMED} more" if len(runs) > NAMED else ""
        logger.warning(
            "Warm shutdown: nothing new is taken; waiting for %s%s. "
            "TERM again stops what runs, QUIT kills it.",
            named,
            more,
        )


def _words(run: Run) -> str:
    minutes, seconds = divmod(int(time.monotonic() - run.begun), 60)
    age = f"{minutes} min" if minutes else f"{seconds} s"
    return f"#{run.job.task} ({printable(run.job.template, 40)}, for {age})"
