"""Whether this host can carry out tasks at all: without that a runner takes none.

It needs a journal that can be written, folders for the tasks, and processes. A claim that cannot be
noted is not sent, and a hint that was popped for it is lost to the others until Forge puts it out
again. What cannot be started fails, and sooner than it would end elsewhere: a worker that went on
popping would take all that waits for nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from runners.worker.fields import printable
from runners.worker.protocol import MAXIMUM_TROUBLE

logger = logging.getLogger(__name__)

# How long after a failure the next try is made.
PROBE_SECONDS = 2.0
# What can fail, and how its trouble begins.
JOURNAL = "The journal cannot be written"
FOLDERS = "No folder for a task can be made"
STARTS = "No task can be started"


class HostWatch(threading.Thread):
    """Says what keeps the host from carrying out tasks, and tries again until nothing does.

    probes: by what can fail; each raises if it does. That of STARTS costs processes, and is left
    out until a start has failed. `changed` is called whenever `trouble` is another one, from the
    thread that noticed.
    """

    def __init__(
        self, probes: Mapping[str, Callable[[], None]], *, changed: Callable[[], None]
    ) -> None:
        super().__init__(name="forge-host-watch", daemon=True)
        self._probes = probes
        self._changed = changed
        self._lock = threading.Lock()
        self._is_needed = threading.Event()
        self._is_closing = threading.Event()
        self._has_failed_to_start = False
        self._trouble = ""

    @property
    def trouble(self) -> str:
        """A sentence for people, without its full stop; empty while all is well."""
        return self._trouble

    def note(self, what: str, error: Exception) -> None:
        """This could not be done just now, whatever the task."""
        if what == STARTS:
            self._has_failed_to_start = True
        # Bounded once more: what cannot be printed is spelled out, and grows.
        self._set(printable(f"{what}: {reason_of(error)}", MAXIMUM_TROUBLE)[:MAXIMUM_TROUBLE])

    def probe(self) -> None:
        """Try all of it, and note what comes of it."""
        for what, probe in self._probes.items():
            if what == STARTS and not self._has_failed_to_start:
                continue
            try:
                probe()
            except Exception as error:
                # Whatever it is, a task would meet it too; and this thread is to go on.
                self.note(what, error)
                return
        self._has_failed_to_start = False
        self._set("")

    def _set(self, trouble: str) -> None:
        with self._lock:
            if trouble == self._trouble:
                return
            before, self._trouble = self._trouble, trouble
            if trouble:
                self._is_needed.set()
                logger.error("%s. No new task is taken until that has passed.", trouble)
            else:
                self._is_needed.clear()
                logger.warning("New tasks are taken again. It has passed: %s.", before)
        self._changed()

    def run(self) -> None:
        while self._is_needed.wait() and not self._is_closing.wait(PROBE_SECONDS):
            self.probe()

    def close(self) -> None:
        self._is_closing.set()
        self._is_needed.set()


def reason_of(error: Exception) -> str:
    """What to tell people of it, without a full stop."""
    why = error.strerror if isinstance(error, OSError) else str(error)
    return (why or type(error).__name__).rstrip(".")
