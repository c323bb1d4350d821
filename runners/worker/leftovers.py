"""What an earlier worker left unfinished, because it was killed."""

from __future__ import annotations

import json
import logging
import os
import select
import signal
from contextlib import suppress
from pathlib import Path

from runners.worker.host import boot
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
            # A task can have stopped it, so that it did not see its worker die.
            with suppress(OSError):
                signal.pidfd_send_signal(handle, signal.SIGCONT)
            return bool(select.select([handle], [], [], PATIENCE_SECONDS)[0])
        finally:
            os.close(handle)


def _birth(pid: int) -> str:
    """What tells a process from all others that have or had its number; empty if it is gone."""
    with suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return f"{boot()} {fields[19]}"
    return ""


def close_leftover(entry: Entry, *, is_gone: bool) -> None:
    """Note how an attempt ended whose worker died; `is_gone`: its processes surely are."""
    # What was not synced to the disk outlives the worker, and not the host: the note that the
    # program was started may be missing then, and what it wrote.
    is_same_boot = bool(entry.boot) and entry.boot == boot()
    if is_same_boot and not entry.has_started:
        reason = "The runner's worker ended before it started the program; nothing was run."
        entry.end("failed", None, reason, is_cut_short=True)
        return
    who = "worker was killed" if is_same_boot else "host was restarted"
    with suppress(OSError):
        line = f"forge: the runner's {who} here; the program's last words may be missing"
        entry.append_line(line)
    # What was in the pipe between program and worker is gone with the worker.
    entry.doubt(f"The runner's {who}: what the program wrote last may be missing.")
    reason = f"The runner's {who} while it ran; its processes were ended with it."
    if not entry.has_started:
        reason = f"The runner's {who}; nobody can say whether the program had been started."
    elif not is_gone:
        reason = f"The runner's {who} while it ran; not all of its processes would end."
    entry.end("failed", None, reason, is_cut_short=is_gone)
