"""Whether the journal can be written: without that a runner takes no task.

A claim that cannot be noted is not sent, and a hint that was popped for it is lost to the others
until Forge puts it out again. A worker that went on popping would take all of them for nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from runners.worker.fields import printable
from runners.worker.journal import Journal
from runners.worker.protocol import MAXIMUM_TROUBLE

logger = logging.getLogger(__name__)

# How long after a write that failed the next one is tried.
PROBE_SECONDS = 2.0


class JournalWatch(threading.Thread):
    """Says what keeps the journal from being written, and tries again until nothing does.

    `changed` is called whenever `trouble` is another one, from the thread that noticed.
    """

    def __init__(self, journal: Journal, *, changed: Callable[[], None]) -> None:
        super().__init__(name="forge-journal-watch", daemon=True)
        self._journal = journal
        self._changed = changed
        self._lock = threading.Lock()
        self._is_needed = threading.Event()
        self._is_closing = threading.Event()
        self._trouble = ""

    @property
    def trouble(self) -> str:
        """A sentence for people, without its full stop; empty while all is well."""
        return self._trouble

    def note(self, error: OSError) -> None:
        """The journal could not be written just now."""
        why = error.strerror or type(error).__name__
        # Bounded once more: what cannot be printed is spelled out, and grows.
        said = printable(f"The journal cannot be written: {why}", MAXIMUM_TROUBLE)
        self._set(said[:MAXIMUM_TROUBLE])

    def probe(self) -> None:
        """Try to write, and note what comes of it."""
        try:
            self._journal.probe()
        except OSError as error:
            self.note(error)
        else:
            self._set("")

    def _set(self, trouble: str) -> None:
        with self._lock:
            if trouble == self._trouble:
                return
            self._trouble = trouble
            if trouble:
                self._is_needed.set()
                logger.error("%s. No new task is taken until it can.", trouble)
            else:
                self._is_needed.clear()
                logger.warning("The journal can be written again: new tasks are taken.")
        self._changed()

    def run(self) -> None:
        while self._is_needed.wait() and not self._is_closing.wait(PROBE_SECONDS):
            self.probe()

    def close(self) -> None:
        self._is_closing.set()
        self._is_needed.set()
