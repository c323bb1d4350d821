"""The journal: what a runner knows of its tasks, on disk until Forge has committed it.

One folder a runner, held by one worker at a time; in it one folder an attempt, of mode 0700:

    lock, instance
    known-<digest>                       a token that was good here: `runners.worker.patience`
    fork-servers/                        a note of each: `runners.worker.predecessor`
    tasks/<task>-<attempt>/claim.json    written before the claim is sent
    tasks/<task>-<attempt>/started       written before the program is started
    tasks/<task>-<attempt>/log           what the process wrote, appended as it comes; above its
                                         limit more files: `runners.worker.bounded_log`
    tasks/<task>-<attempt>/result.json   how it ended, written whole or not at all

Beside them are the folders that processes work in (`runners.worker.workplace`).
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from runners.worker.entry import Entry
from runners.worker.errors import AlreadyRunningError, ConfigurationError
from runners.worker.whole_file import write_whole

logger = logging.getLogger(__name__)

_ENTRY = re.compile(r"\A([0-9]{1,19})-([0-9]{1,7})\Z")
# What a probe writes: less room than this is none for a task and its log.
PROBE_BYTES = 64 * 1024


class Journal:
    """All attempts that this runner has not yet handed over. Thread-safe."""

    def __init__(self, folder: Path, *, is_passable: bool = False) -> None:
        self.folder = folder
        # Other users' processes work in a folder below it; all else in it is of mode 0700 or 0600.
        self._mode = 0o711 if is_passable else 0o700
        self._entries: dict[tuple[int, int], Entry] = {}
        self._lock = threading.Lock()
        self._is_changed = threading.Condition(self._lock)
        self._restoring = threading.Lock()
        # What is being deleted: its folder is not free yet.
        self._going: set[tuple[int, int]] = set()
        self._held: int | None = None
        self.instance = ""
        # Called when the folder was made anew, without what others keep in it.
        self.restored: Callable[[], None] = lambda: None
        # Something in it cannot be read, so that nobody knows of all that it tells of.
        self.is_partial = False

    def take_over(self, old: Path) -> None:
        """Rename the folder of an earlier version to this one's name, if only that is there.

        Raises AlreadyRunningError when a worker of that version still uses it, and
        ConfigurationError.
        """
        try:
            if self.folder.exists() or not old.is_dir():
                return
            held = lock(old)
            try:
                old.rename(self.folder)
            finally:
                os.close(held)
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> ConfigurationError:
        return ConfigurationError(
            f"The journal folder {self.folder} cannot be used: {error.strerror}. "
            "Set FORGE_RUNNER_DATA to a folder that this user may write."
        )

    def open(self) -> None:
        """Take the folder for this process and find what an earlier worker left.

        Raises AlreadyRunningError and ConfigurationError (folder not writable).
        """
        try:
            self._make_folders()
            self._held = lock(self.folder)
            self.instance = self._read_instance()
        except OSError as error:
            raise self._unusable(error) from error
        self._find_leftovers()

    def _make_folders(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(self._mode)
        (self.folder / "tasks").mkdir(mode=0o700, exist_ok=True)
        (self.folder / "tasks").chmod(0o700)

    def restore(self) -> None:
        """Make and hold it anew if somebody has deleted it, as cleaners of temporary files do.

        Raises OSError.
        """
        with self._restoring:
            if (self.folder / "tasks").is_dir() and (self.folder / "lock").exists():
                return
            self._make_folders()
            if not (self.folder / "instance").exists():
                write_whole(self.folder / "instance", self.instance)
            # Where another worker has begun there meanwhile, Forge ends this one.
            with suppress(AlreadyRunningError):
                before, self._held = self._held, lock(self.folder)
                if before is not None:
                    os.close(before)
        logger.warning("%s or a part of it was deleted, and is made anew.", self.folder)
        self.restored()

    def _read_instance(self) -> str:
        path = self.folder / "instance"
        if path.exists() and (found := path.read_text().strip()):
            return found
        instance = secrets.token_hex(16)
        write_whole(path, instance)
        return instance

    def _find_leftovers(self) -> None:
        for folder in sorted((self.folder / "tasks").glob("*")):
            match = _ENTRY.match(folder.name)
            if match and folder.is_dir():
                entry = Entry(folder, int(match[1]), int(match[2]))
                try:
                    entry.recover()
                except OSError as error:
                    # The host's other tasks do not wait for its disk to be mended.
                    self.is_partial = True
                    logger.error("%s cannot be read and is left: %s.", folder, error.strerror)
                else:
                    self._entries[entry.task, entry.attempt] = entry

    def probe(self) -> None:
        """Write something where the tasks are, down to the disk, and delete it. Raises OSError."""
        self.restore()
        place = self.folder / "tasks" / "probe"
        file = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(file, "wb") as stream:
                # Zeros could be written to a full disk that compresses.
                stream.write(os.urandom(PROBE_BYTES))
                stream.flush()
                # Some file systems find only here that there is no room.
                os.fsync(stream.fileno())
        finally:
            place.unlink(missing_ok=True)

    def create(self, task: int, attempt: int) -> Entry | None:
        """A new entry, or None if this attempt is in the journal already.

        What is just being deleted of the same attempt is waited for: they share a folder.
        """
        # If that fails, whoever opens the entry hears why.
        with suppress(OSError):
            self.restore()
        with self._is_changed:
            self._is_changed.wait_for(lambda: (task, attempt) not in self._going)
            if (task, attempt) in self._entries:
                return None
            entry = Entry(self.folder / "tasks" / f"{task}-{attempt}", task, attempt)
            self._entries[task, attempt] = entry
        return entry

    def await_room(self, most: int, seconds: float) -> bool:
        """Wait until there are fewer than `most` entries; False if it took longer than that."""
        with self._is_changed:
            return self._is_changed.wait_for(lambda: len(self._entries) < most, seconds)

    def await_results(self, seconds: float) -> None:
        """Wait until each entry has one, for so long at most."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and any(entry.result is None for entry in self):
            time.sleep(0.02)

    def get(self, task: int, attempt: int) -> Entry | None:
        with self._lock:
            return self._entries.get((task, attempt))

    def forget(self, entry: Entry) -> None:
        """Delete an entry that Forge has committed or refused; not if somebody has done so."""
        key = entry.task, entry.attempt
        with self._lock:
            if self._entries.get(key) is not entry:
                return
            del self._entries[key]
            self._going.add(key)
        try:
            entry.delete()
        finally:
            with self._is_changed:
                self._going.remove(key)
                self._is_changed.notify_all()

    def __iter__(self) -> Iterator[Entry]:
        with self._lock:
            return iter(list(self._entries.values()))

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)

    def close(self, *, warns: bool = False) -> None:
        """Let others take the folder; say what is kept there, for whoever would delete the host."""
        if warns and (count := len(self)):
            which = "1 task" if count == 1 else f"{count} tasks"
            logger.warning(
                "What came of %s is kept in %s, and handed over when a worker of this runner "
                "starts here again.",
                which,
                self.folder,
            )
        if self._held is not None:
            os.close(self._held)
            self._held = None


def open_journal(folder: Path, earlier: Path, *, is_passable: bool) -> Journal:
    """That of a runner, in `folder`, or so far in `earlier`. Raises what its parts do."""
    journal = Journal(folder, is_passable=is_passable)
    journal.take_over(earlier)
    journal.open()
    return journal


def earlier_name(token: str) -> str:
    """What a journal's folder was called when it was named after the token."""
    return "runner-" + hashlib.sha256(token.encode()).hexdigest()[:16]


def lock(folder: Path) -> int:
    """Hold a journal's folder for this process until the answer, a file, is closed.

    Raises AlreadyRunningError and OSError.
    """
    file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(file)
        raise AlreadyRunningError(
            f"Another worker already uses {folder}. Stop it first, or give this runner "
            "a token of its own."
        ) from error
    return file
