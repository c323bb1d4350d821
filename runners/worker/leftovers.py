"""What an earlier worker left unfinished, because it was killed."""

from __future__ import annotations

import json
import logging
import os
import select
from contextlib import suppress
from pathlib import Path

from runners.worker.journal import Entry
from runners.worker.whole_file import write_whole

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 30.0


class Predecessor:
    """The fork server of the worker before this one, known by a file beside the journal.

    It ends when the last process of its worker's tasks is gone, and not before.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def note(self, pid: int) -> None:
        """This worker's fork server is `pid`."""
        try:
            write_whole(self._path, json.dumps({"pid": pid, "born": _birth(pid)}))
        except OSError as error:
            logger.error("The fork server is not noted for the next worker: %s", error)

    def await_end(self) -> bool:
        """Wait until it is gone; False if it still is there after PATIENCE_SECONDS."""
        try:
            noted = json.loads(self._path.read_text())
            pid, born = int(noted["pid"]), str(noted["born"])
            handle = os.pidfd_open(pid)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return True  # never noted, gone, or on a system without such handles
        try:
            # Behind the handle is one process for ever; it may be another one of the same number.
            if _birth(pid) != born:
                return True
            return bool(select.select([handle], [], [], PATIENCE_SECONDS)[0])
        finally:
            os.close(handle)


def _birth(pid: int) -> str:
    """What tells a process from all others that have or had its number; empty if it is gone."""
    with suppress(OSError, IndexError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return f"{boot} {fields[19]}"
    return ""


def close_leftover(entry: Entry, *, is_gone: bool) -> None:
    """Note how an attempt ended whose worker died; `is_gone`: its processes surely are."""
    if not entry.has_started:
        reason = "The runner's worker ended before it started the program; nothing was run."
        entry.end("failed", None, reason, is_cut_short=True)
        return
    with suppress(OSError):
        entry.append_line(
            "forge: the runner's worker was killed here; the program's last words may be missing"
        )
    reason = "The runner's worker was killed while it ran; its processes were ended with it."
    if not is_gone:
        reason = "The runner's worker was killed while it ran; not all of its processes would end."
    entry.end("failed", None, reason, is_cut_short=is_gone)
