"""Deletes folders that nobody needs any more, beside what goes on.

    <runner's folder>/gone/<random name>

A task may leave millions of files, which takes minutes. Its folder is moved aside first, to where
no task user gets to: at once its slot is free, and its path and its user are another attempt's.
"""

from __future__ import annotations

import logging
import os
import queue
import secrets
import stat
import threading
from contextlib import suppress
from pathlib import Path

from runners.worker.supervision import remove_folder

logger = logging.getLogger(__name__)

# How long a worker that ends waits for what is left: in peace, or when it is to end at once.
CALM_SECONDS = 5.0
HASTY_SECONDS = 0.5
_PRIVATE = 0o700


class Clearance:
    """One thread; `start` begins it. What it has not come to goes after the worker's next start.

    Thread-safe.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # None: there is no more.
        self._waiting: queue.SimpleQueue[Path | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def find(self) -> None:
        """At the start, before anything is taken: what earlier workers did not come to."""
        with suppress(OSError):
            if is_own_folder(self._folder):
                for name in os.listdir(self._folder):
                    self._waiting.put(self._folder / name)

    def take(self, folder: Path) -> None:
        """Nothing is at this path any more; what was there is deleted later. Raises nothing.

        What cannot be moved is deleted at once, as far as it lets itself be: something may be
        mounted on it, or the place to move it to be on another disk.
        """
        try:
            aside = self._move_aside(folder)
        except OSError:
            remove_folder(os.fsencode(folder))
        else:
            self._waiting.put(aside)

    def _move_aside(self, folder: Path) -> Path:
        self._folder.mkdir(mode=_PRIVATE, exist_ok=True)
        if not is_own_folder(self._folder):
            raise PermissionError
        self._folder.chmod(_PRIVATE)
        aside = self._folder / secrets.token_hex(12)
        folder.rename(aside)
        return aside

    def start(self) -> None:
        """Begin to delete; again it does nothing."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="forge-clearance", daemon=True
                )
                self._thread.start()

    def close(self, *, is_calm: bool) -> None:
        """Delete nothing that is taken later, and wait a little for the rest; or for a moment."""
        self._waiting.put(None)
        if self._thread is not None:
            self._thread.join(CALM_SECONDS if is_calm else HASTY_SECONDS)

    def _run(self) -> None:
        while (path := self._waiting.get()) is not None:
            try:
                remove_folder(os.fsencode(path))
                # A task may have put something else in its folder's place.
                with suppress(OSError):
                    path.unlink()
            except Exception:
                # Whatever it is: the next ones are to go all the same.
                logger.exception("%s is not deleted; the worker's next start tries again.", path)


def is_own_folder(folder: Path) -> bool:
    """Whether it is a folder, no link to one, that belongs to this user."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
