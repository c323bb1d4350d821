"""How the fork servers of the worker before this one ended: after all of its tasks, or not."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import secrets
import signal
import time
from contextlib import suppress
from enum import IntEnum
from pathlib import Path

from runners.worker.origin import Origin, find_heirs
from runners.worker.pid_space import PidSpace
from runners.worker.processes import cgroup_of, command_of, process_ids
from runners.worker.supervision import Note, boot_seconds, remove_folder

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 30.0
# What a fork server adds to the name of its note (`supervision.server.main`).
_ENDED = ".ended"
_LOOK_SECONDS = 0.05
_NUDGE_SECONDS = 1.0


class End(IntEnum):
    """How the fork servers of the worker before this one ended; of several the last one counts.

    ORDERLY: after the last process of their tasks, as they said themselves. KILLED: nobody said
    so, as where there is no note of any. PENDING: one of them, or a supervisor, lives and is still
    ending something.
    """

    ORDERLY = 0
    KILLED = 1
    PENDING = 2


class Predecessor:
    """The fork servers of the worker before this one, each known by a note of its own.

    The note is there before the server is, and is locked as long as the server or a supervisor of
    it lives. As its last act the server renames it to `<note>.ended`, which needs next to no room
    on the disk. That a note is gone proves nothing: whoever clears the folder may have deleted it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._killed: list[Path] = []
        self._ended: list[Path] = []
        # Asked now: from its first fork server on this process adopts what is below it.
        self._heirs = find_heirs()

    def note(self) -> Note:
        """Note that this worker is about to start a fork server. Raises OSError."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        name = secrets.token_hex(16)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            file = os.open(name, flags, 0o600, dir_fd=folder)
        except OSError:
            os.close(folder)
            raise
        fcntl.flock(file, fcntl.LOCK_EX)
        where = cgroup_of(os.getpid()), self._heirs, PidSpace.here()
        origin = Origin(boot_seconds(), *where)
        with suppress(OSError):  # On a full disk more processes will be suspected, no fewer.
            os.write(file, json.dumps(origin.as_json()).encode())
        return Note(file, folder, name)

    def await_end(self) -> End:
        """Wait until they and their supervisors are gone, for at most PATIENCE_SECONDS."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        try:
            notes = sorted(self._folder.iterdir())
        except FileNotFoundError:
            return End.KILLED
        except OSError as error:
            logger.error("The notes of earlier fork servers cannot be read: %s", error)
            return End.KILLED
        return max((self._await(note, deadline) for note in notes), default=End.KILLED)

    def _await(self, note: Path, deadline: float) -> End:
        if note.suffix == _ENDED:
            self._ended.append(note)
            return End.ORDERLY
        try:
            # What is no file and has this name: a fifo, say, would be waited for.
            file = os.open(note, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return self._end_without(note)
        except OSError:
            self._killed.append(note)
            return End.KILLED
        try:
            nudged = 0.0
            while not _is_free(file):
                now = time.monotonic()
                if now >= deadline:
                    return End.PENDING
                if now - nudged >= _NUDGE_SECONDS:
                    _continue(note.name)
                    nudged = now
                time.sleep(_LOOK_SECONDS)
        finally:
            os.close(file)
        if not note.exists():
            return self._end_without(note)
        self._killed.append(note)
        return End.KILLED

    def _end_without(self, note: Path) -> End:
        """How the server of a note ended that is gone by now."""
        ended = note.with_name(note.name + _ENDED)
        if not ended.exists():
            return End.KILLED
        self._ended.append(ended)
        return End.ORDERLY

    @property
    def origin(self) -> Origin:
        """What is known of the processes that killed fork servers left."""
        origins = [_read_origin(note) for note in self._killed]
        cgroups = {origin.cgroup for origin in origins}
        heirs = {origin.heirs for origin in origins}
        spaces = {origin.space for origin in origins}
        return Origin(
            min((origin.begun for origin in origins), default=0.0),
            cgroups.pop() if len(cgroups) == 1 else None,
            heirs.pop() if len(heirs) == 1 else None,
            spaces.pop() if len(spaces) == 1 else PidSpace("several"),
        )

    def forget(self) -> None:
        """What they left is dealt with, and noted where a restart finds it."""
        for note in (*self._killed, *self._ended):
            with suppress(OSError):
                remove_folder(os.fsencode(note)) if _is_folder(note) else note.unlink()
        self._killed, self._ended = [], []


def _is_folder(note: Path) -> bool:
    return note.is_dir() and not note.is_symlink()


def _is_free(file: int) -> bool:
    """Whether nobody holds the lock; it is not kept."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _continue(name: str) -> None:
    """A task can have stopped them, so that they did not see their worker die."""
    for pid in process_ids():
        if name.encode() in command_of(pid):
            with suppress(OSError):
                os.kill(pid, signal.SIGCONT)


def _read_origin(note: Path) -> Origin:
    try:
        if not note.is_file() or note.is_symlink():
            return Origin()
        return Origin.read(json.loads(note.read_text()))
    except (OSError, ValueError):
        return Origin()
