"""What signals ask of a worker: to drain, to stop its tasks, to kill them.

TERM or Ctrl-C drains, once more stops the tasks by their own steps, QUIT kills them. HUP drains:
a terminal that closes and a service that is reloaded may send it, and neither means the tasks.
Celery's own handlers would end the pool under running tasks, or start the program anew under them;
these only tell the agent, in a thread, because a handler must not wait for a lock that its own
thread may hold.
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
from runners.worker.protocol import MAXIMUM_REASON

logger = logging.getLogger(__name__)

NOTE_SECONDS = 30.0
LOOK_SECONDS = 0.5
# How long a worker that runs nothing may still talk to the broker. Where packets are dropped
# without a word, Celery would wait for answers much longer.
SILENT_SECONDS = 2.0
NAMED = 5
REASON = "The runner's worker was shut down."


def ignore_what_means_nothing() -> None:
    """USR2 would end the process at once, with its tasks. In the main thread."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


class Shutdown(threading.Thread):
    """Takes orders from signal handlers and carries them out, one after the other."""

    def __init__(self, agent: Agent) -> None:
        super().__init__(name="forge-shutdown", daemon=True)
        self._agent = agent
        # Its `put` may be called from a signal handler that has interrupted another `put`.
        self._orders: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._is_draining = False
        self._noted_at = self._busy_at = 0.0

    def install(self, *, outlives_terminal: bool) -> None:
        """Take over the signals; in the main thread.

        outlives_terminal: HUP was ignored when the process was started, as by nohup, and stays so.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, self._handle)
        signal.signal(signal.SIGHUP, signal.SIG_IGN if outlives_terminal else self._handle)
        ignore_what_means_nothing()
        self._agent.shut_down = self.drain
        self.start()

    def drain(self, reason: str) -> None:
        """As the first TERM; again it does nothing, nor where a signal came before."""
        if state.should_stop is None:
            logger.warning("%s", printable(reason, MAXIMUM_REASON))
            self._handle(signal.SIGTERM, None)

    def _handle(self, number: int, frame: Any) -> None:
        # Celery then stops consuming, waits for the pool, and exits with this status.
        if state.should_stop is None:
            state.should_stop = 0  # type: ignore[assignment]
        self._orders.put(number)
        waker.wake()

    def run(self) -> None:
        while True:
            try:
                number = self._orders.get(timeout=LOOK_SECONDS if self._is_draining else None)
            except queue.Empty:
                self._look()
                continue
            self._obey(number)

    def _look(self) -> None:
        """While it drains, over and over."""
        now = time.monotonic()
        if list(self._agent.runs):
            self._busy_at = now
        elif now - self._busy_at > SILENT_SECONDS:
            self._agent.abandon()
            self._agent.cut()
        if now - self._noted_at > NOTE_SECONDS:
            self._note()

    def _obey(self, number: int) -> None:
        is_first = not self._is_draining
        if number == signal.SIGHUP:
            if not is_first:
                return  # a terminal that closes may send it more than once
            logger.warning("Hung up: this worker ends when its tasks have, as at TERM.")
        if is_first:
            self._busy_at = time.monotonic()
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
        self._noted_at = time.monotonic()
        runs = list(self._agent.runs)
        asked_for = self._agent.runs.asked_for()
        if not runs and asked_for:
            named = ", ".join(f"#{task}" for task in asked_for[:NAMED])
            logger.warning(
                "Warm shutdown: nothing new is taken; waiting for Forge to say whether it has "
                "given %s to this worker. TERM again ends it without that.",
                named,
            )
            return
        if not runs:
            waiting = len(self._agent.journal)
            rest = f", and Forge has yet to take what came of {waiting}" if waiting else ""
            logger.warning("Warm shutdown: nothing new is taken, and nothing runs%s.", rest)
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
