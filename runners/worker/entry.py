"""The journal of one attempt: its folder, as `runners.worker.journal` describes it."""

from __future__ import annotations

import json
import logging
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from runners.worker.bounded_log import BoundedLog
from runners.worker.host import boot, host
from runners.worker.origin import past
from runners.worker.supervision import boot_seconds, remove_folder
from runners.worker.whole_file import write_whole
from runners.worker.writing_times import WritingTimes

logger = logging.getLogger(__name__)

_NONCE = re.compile(r"[0-9a-z]{8,64}")
LONGEST_PROBLEM = 200
MISSING = "A part of it is missing on the runner's disk."


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
        # When its program was started, in boot seconds; likewise the end.
        self.started: float | None = None
        self.is_start_sent = False
        self.log = BoundedLog(folder)
        self.times = WritingTimes()
        self.told_written = 0
        # What Forge last said of it, for people.
        self.remark = ""
        self.result: dict[str, Any] | None = None
        # An earlier worker noted its end, and nobody can read how it was.
        self.is_end_unreadable = False
        self._problem = ""
        self._ended = boot_seconds()

    def open(self, nonce: str, url: str = "") -> None:
        """Create the folder and note the claim that is about to be sent."""
        # Without those above it, which would get the mode that the host gives to all.
        self.folder.mkdir(mode=0o700, exist_ok=True)
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
        """Read back what an earlier worker left here.

        Raises OSError if its folder cannot be used. If only the log does not open, what comes now
        goes to an empty one.
        """
        claim = _read(self.folder / "claim.json") or {}
        nonce = str(claim.get("nonce", ""))
        # Damaged on the disk it would say that the result is of another claim.
        self.nonce = nonce if _NONCE.fullmatch(nonce) else ""
        self.boot = str(claim.get("boot", ""))
        self.host = str(claim.get("host", ""))
        self.url = str(claim.get("url", ""))
        self.result = _read(self.folder / "result.json")
        self.is_end_unreadable = self.result is None and _is_there(self.folder / "result.json")
        if trouble := self._recover_log():
            self.doubt(f"A part of it could not be read on the runner's disk: {trouble.strerror}.")
        if self.log.is_cut:
            self.doubt(MISSING)
        self.result = self._with_what_is_left(self.result)
        if self.result and self.result.get("has_run") is True:
            # That worker may have been killed before it could tell of the start.
            self.started = boot_seconds() - self._seconds_since_start()

    def _recover_log(self) -> OSError | None:
        is_sealed = self.result is not None
        try:
            return self.log.recover(is_sealed=is_sealed)
        except OSError as error:
            (self.folder / "log").rename(self.folder / "log.unreadable")
            self.log = BoundedLog(self.folder)
            return self.log.recover(is_sealed=is_sealed) or error

    def _with_what_is_left(self, result: dict[str, Any] | None) -> dict[str, Any] | None:
        """The result; of a log that is shorter than it says, so that it can be handed over."""
        told = result.get("log_bytes") if result else None
        if not result or not isinstance(told, int) or told <= self.length:
            return result
        left = {"log_bytes": self.length, "log_problem": result.get("log_problem") or MISSING}
        gap = result.get("log_gap_offset")
        if isinstance(gap, int) and gap > self.length:
            left |= {"log_gap_offset": None, "log_gap_bytes": 0}
        return {**result, **left}

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
        return _is_there(self.folder / "started")

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
        self._ended = boot_seconds()
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
            "run_seconds": None if self.started is None else max(0.0, self._ended - self.started),
            **self.about_log(),
        }
        try:
            self.log.sync()
            write_whole(self.folder / "result.json", json.dumps(result))
            self.log.discard_tail()
        except OSError as error:
            logger.error("The end of task %d is kept in memory only: %s", self.task, error)
        self.result = result

    @property
    def is_end_kept(self) -> bool:
        """Whether its end is on the disk."""
        with suppress(OSError):
            return (self.folder / "result.json").exists()
        return False

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
        return max(0.0, boot_seconds() - self._ended)

    def delete(self) -> None:
        """Forge has it all, or wants none of it."""
        self.log.close()
        remove_folder(os.fsencode(self.folder))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _is_there(path: Path) -> bool:
    """Also where the disk does not say."""
    try:
        return path.exists()
    except OSError:
        return True
