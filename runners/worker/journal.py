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
import json
import logging
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from runners.worker.bounded_log import BoundedLog
from runners.worker.errors import AlreadyRunningError, ConfigurationError
from runners.worker.host import boot, host
from runners.worker.origin import past
from runners.worker.supervision import boot_seconds
from runners.worker.whole_file import write_whole
from runners.worker.writing_times import WritingTimes

logger = logging.getLogger(__name__)

_ENTRY = re.compile(r"\A([0-9]{1,19})-([0-9]{1,7})\Z")
_NONCE = re.compile(r"[0-9a-z]{8,64}")
LONGEST_PROBLEM = 200
# What a probe writes: less room than this is none for a task and its log.
PROBE_BYTES = 64 * 1024


class Start(NamedTuple):
    """begun: when, in boot seconds; 0 if that is not known. uid: the user it had for itself."""

    begun: float
    uid: int | None


class Entry:
    """The journal of one attempt. One thread appends, another reads and confirms."""

    def __init__(self, folder: Path, task: int, attempt: int) -> None:
        self.task = task
        self.attempt = attempt
        self.folder = folder
        self.nonce = ""
        # The host's start in which the attempt was claimed; empty if that is not known.
        self.boot = ""
        # The host that it was claimed on; empty if that is not known, as of an older worker's.
        self.host = ""
        # Forge's address, as its program was given it; empty if that is not known.
        self.url = ""
        self.sent = 0
        self.started: float | None = None  # time.monotonic() of the start
        self.is_start_sent = False
        self.log = BoundedLog(folder)
        self.times = WritingTimes()
        self.told_written = 0
        self.result: dict[str, Any] | None = None
        self._problem = ""
        self._ended = time.monotonic()

    def open(self, nonce: str, url: str = "") -> None:
        """Create the folder and note the claim that is about to be sent."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.nonce = nonce
        self.boot, self.host = boot(), host()
        self.url = url
        # Not synced to the disk: it has to outlive the worker, not the host.
        claim = os.open(self.folder / "claim.json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(claim, "w") as stream:
            told = {"nonce": nonce, "boot": self.boot, "host": self.host, "url": url}
            json.dump(told, stream)
        self.log.open()

    def recover(self) -> None:
        """Read back what an earlier worker left here. Raises OSError if its log does not open."""
        claim = _read(self.folder / "claim.json") or {}
        nonce = str(claim.get("nonce", ""))
        # Damaged on the disk it would say that the result is of another claim.
        self.nonce = nonce if _NONCE.fullmatch(nonce) else ""
        self.boot = str(claim.get("boot", ""))
        self.host = str(claim.get("host", ""))
        self.url = str(claim.get("url", ""))
        self.result = _read(self.folder / "result.json")
        if trouble := self.log.recover(is_sealed=self.result is not None):
            self.doubt(f"A part of it could not be read on the runner's disk: {trouble.strerror}.")
        if self.result and self.result.get("has_run") is True:
            # That worker may have been killed before it could tell of the start.
            self.started = time.monotonic() - self._seconds_since_start()

    def note_start(self, uid: int | None = None) -> None:
        """The program is about to be started, as a user of its own if there is a `uid`.

        Raises OSError when the disk is full.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        with os.fdopen(os.open(self.folder / "started", flags, 0o600), "w") as stream:
            json.dump({"begun": boot_seconds(), "uid": uid}, stream)

    def take_back_start(self) -> None:
        """It was not started, and may be later."""
        (self.folder / "started").unlink(missing_ok=True)

    @property
    def has_started(self) -> bool:
        """Whether a program may have been started."""
        return (self.folder / "started").exists()

    @property
    def start(self) -> Start:
        """What was noted of the start of its program."""
        noted = _read(self.folder / "started") or {}
        uid = noted.get("uid")
        return Start(past(noted.get("begun")), uid if isinstance(uid, int) else None)

    def _seconds_since_start(self) -> float:
        """By the clock of the boot. If the host was restarted since, what went by until the end:
        that counts as just now."""
        begun = self.start.begun
        if begun and self.boot and self.boot == boot():
            return boot_seconds() - begun
        with suppress(OSError):
            written = [(self.folder / name).stat().st_mtime for name in ("started", "result.json")]
            return max(0.0, written[1] - written[0])
        return 0.0

    @property
    def length(self) -> int:
        """How many bytes of the log there are to be sent."""
        return self.log.length

    def append(self, data: bytes) -> None:
        """Add to the log. Raises OSError when the disk is full; it is noted that bytes are lost."""
        before = self.log.length
        try:
            self.log.append(data)
            # What is above the limit is copied behind the head at the end, without its times.
            grown = self.log.length - before
            if grown:
                self.times.note(before, time.monotonic())
            if grown < len(data):
                self.times.note(self.log.length, None)
        except OSError as error:
            self._note("What came last could not be kept", error)
            raise

    def _note(self, what: str, error: OSError) -> None:
        self._problem = f"{what} on the runner's disk: {error.strerror}."[:LONGEST_PROBLEM]

    def doubt(self, sentence: str) -> None:
        """Say of the log that it may lack something, and what; the first problem stays."""
        self._problem = self._problem or sentence[:LONGEST_PROBLEM]

    def append_line(self, line: str) -> None:
        """Add a line of Forge's own, apart from what the program wrote."""
        self.append(f"{'' if self.log.ends_line else chr(10)}{line}\n".encode())

    def read(self, offset: int, size: int) -> bytes:
        """Log bytes from `offset`, at most `size`; fewer at the end."""
        return self.log.read(offset, size)

    def end(
        self, outcome: str, exit_code: int | None, reason: str, *, is_cut_short: bool = False
    ) -> None:
        """Note the end, durably: from here on a restart delivers it. The log must be whole.

        On a full disk it is noted in memory only, and delivered as long as this worker lives.
        """
        try:
            self.log.seal()
        except OSError as error:
            self._note("The end of the log could not be kept", error)
        result = {
            "outcome": outcome,
            "exit_code": exit_code,
            "reason": reason,
            "is_cut_short": is_cut_short,
            "has_run": self.started is not None,
            **self.about_log(),
        }
        try:
            self.log.sync()
            write_whole(self.folder / "result.json", json.dumps(result))
            self.log.discard_tail()
        except OSError as error:
            logger.error("The end of task %d is kept in memory only: %s", self.task, error)
        self._ended = time.monotonic()
        self.result = result

    @property
    def is_end_kept(self) -> bool:
        """Whether its end is on the disk."""
        return (self.folder / "result.json").exists()

    def about_log(self) -> dict[str, Any]:
        """The fields of a `protocol.Result` that concern the log."""
        gap = self.log.gap
        return {
            "log_bytes": self.log.length,
            "log_sha256": self.log.sha256,
            "log_written_bytes": self.log.written,
            "log_gap_offset": gap.offset if gap else None,
            "log_gap_bytes": gap.size if gap else 0,
            "log_problem": self._problem,
        }

    @property
    def seconds_since_end(self) -> float:
        return max(0.0, time.monotonic() - self._ended)

    def delete(self) -> None:
        """Forge has it all, or wants none of it."""
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Journal:
    """All attempts that this runner has not yet handed over. Thread-safe."""

    def __init__(self, folder: Path, *, is_passable: bool = False) -> None:
        self.folder = folder
        # Other users' processes work in a folder below it; all else in it is of mode 0700 or 0600.
        self._mode = 0o711 if is_passable else 0o700
        self._entries: dict[tuple[int, int], Entry] = {}
        self._lock = threading.Lock()
        self._has_room = threading.Condition(self._lock)
        self._held: int | None = None
        self.instance = ""

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
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.chmod(self._mode)
            (self.folder / "tasks").mkdir(mode=0o700, exist_ok=True)
            (self.folder / "tasks").chmod(0o700)
            self._held = lock(self.folder)
            self.instance = self._read_instance()
        except OSError as error:
            raise self._unusable(error) from error
        self._find_leftovers()

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
                    logger.error("%s cannot be read and is left: %s.", folder, error.strerror)
                else:
                    self._entries[entry.task, entry.attempt] = entry

    def probe(self) -> None:
        """Write something where the tasks are, down to the disk, and delete it. Raises OSError."""
        place = self.folder / "tasks" / "probe"
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
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
        """A new entry, or None if this attempt is in the journal already."""
        with self._lock:
            if (task, attempt) in self._entries:
                return None
            entry = Entry(self.folder / "tasks" / f"{task}-{attempt}", task, attempt)
            self._entries[task, attempt] = entry
        return entry

    def await_room(self, most: int, seconds: float) -> bool:
        """Wait until there are fewer than `most` entries; False if it took longer than that."""
        with self._has_room:
            return self._has_room.wait_for(lambda: len(self._entries) < most, seconds)

    def get(self, task: int, attempt: int) -> Entry | None:
        with self._lock:
            return self._entries.get((task, attempt))

    def forget(self, entry: Entry) -> None:
        """Delete an entry that Forge has committed or refused."""
        with self._lock:
            self._entries.pop((entry.task, entry.attempt), None)
            self._has_room.notify_all()
        entry.delete()

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


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
