"""What an earlier worker left unfinished, because it was killed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from runners.worker.entry import Entry
from runners.worker.host import boot, host
from runners.worker.journal import Journal
from runners.worker.predecessor import End, Predecessor
from runners.worker.remains import Remains, Trail
from runners.worker.workplace import Workplaces

# Searches of all processes that go on side by side.
MOST_AT_ONCE = 16


class Leftovers:
    """The attempts in a journal that its worker did not see end."""

    def __init__(self, journal: Journal, predecessor: Predecessor) -> None:
        self._journal = journal
        self._predecessor = predecessor
        self._end = End.ORDERLY
        self._remains: dict[Entry, Remains] = {}

    def end(self, workplaces: Workplaces) -> None:
        """Wait until their processes are gone, and end what nobody else does any more."""
        self._end = self._predecessor.await_end()
        if self._end is not End.KILLED:
            return
        origin = self._predecessor.origin
        trails: dict[Entry, Trail] = {}
        for entry in self._journal:
            if entry.result is None and entry.has_started and not _is_of_other_boot(entry):
                folder = workplaces.of(entry.task, entry.attempt, None, has_secrets=False).place
                known = entry.task, entry.attempt, entry.url, folder
                start = entry.start
                trails[entry] = Trail(*known, origin, begun=start.begun, uid=start.uid)
        if not trails:
            return
        for trail in trails.values():
            trail.beside(trails.values())
        # At once, and not one after the other: each may wait for seconds, and what nobody can say
        # has to be said before the leases end, after which Forge lets other attempts begin.
        with ThreadPoolExecutor(min(len(trails), MOST_AT_ONCE)) as pool:
            found = pool.map(Trail.end, trails.values())
            self._remains = dict(zip(trails, found, strict=True))

    def close(self) -> None:
        """Note how they ended."""
        for entry in self._journal:
            if entry.result is None:
                close_leftover(entry, end=self._end, remains=self._remains.get(entry))
        # Otherwise the next start is to ask once more what became of them.
        if all(entry.is_end_kept for entry in self._journal) and not self._journal.is_partial:
            self._predecessor.forget()


def _is_of_other_boot(entry: Entry) -> bool:
    """Whether the host was restarted since, which no process outlives, or is another one."""
    return bool(entry.boot) and bool(boot()) and entry.boot != boot()


def _is_of_this_boot(entry: Entry) -> bool:
    return bool(entry.boot) and entry.boot == boot()


def _is_of_other_host(entry: Entry) -> bool:
    """Whether the journal was moved, so that what it tells of may go on elsewhere."""
    return bool(entry.host) and entry.host != host() and not _is_of_this_boot(entry)


def close_leftover(entry: Entry, *, end: End, remains: Remains | None = None) -> None:
    """Note how an attempt ended whose worker died.

    `end` is how the fork servers ended; if one was killed, `remains` is what was found of it.
    """
    if _is_of_other_host(entry):
        _close_moved(entry)
        return
    if entry.is_end_unreadable:
        _close_unreadable(entry)
        return
    if _is_of_other_boot(entry):
        end = End.ORDERLY
    # What was not synced to the disk outlives the worker, and not the host: the note that the
    # program was started may be missing then, and what it wrote.
    is_same_boot = _is_of_this_boot(entry)
    if is_same_boot and not entry.has_started:
        reason = "The runner's worker ended before it started the program; nothing was run."
        entry.end("failed", None, reason, is_cut_short=True)
        return
    who = "host was restarted" if _is_of_other_boot(entry) else "worker was killed"
    _doubt(entry, who)
    if not entry.has_started:
        reason = f"The runner's {who}; nobody can say whether the program had been started."
        # If the note of its claim cannot be read, that of its start may be lost as well.
        is_cut_short = end is End.ORDERLY and bool(entry.boot)
        entry.end("failed", None, reason, is_cut_short=is_cut_short)
        return
    what, is_gone = _what_is_left(end, remains)
    if end is not End.ORDERLY:
        _say(entry, what)
    reason = f"The runner's {who} while it ran; {what}."
    entry.end("failed", None, reason, is_cut_short=is_gone)


def _close_unreadable(entry: Entry) -> None:
    """It has ended, maybe well: it is not run again."""
    _doubt(entry, "worker was killed")
    reason = (
        "The runner's worker was killed, and its note of how the program ended cannot be read; "
        "nobody can say how it ended."
    )
    entry.end("failed", None, reason)


def _close_moved(entry: Entry) -> None:
    """Its worker, and with it what ends its processes, may run on where the journal was."""
    _doubt(entry, "journal was taken to another host")
    reason = (
        "The runner's journal was taken to another host, or its host was given another name, "
        "before it was known how the attempt ended; nobody can say whether it still runs there."
    )
    entry.end("failed", None, reason)


def _doubt(entry: Entry, who: str) -> None:
    _say(entry, f"the runner's {who} here; the program's last words may be missing")
    # What was in the pipe between program and worker is gone with the worker.
    entry.doubt(f"The runner's {who}: what the program wrote last may be missing.")


def _what_is_left(end: End, remains: Remains | None) -> tuple[str, bool]:
    """Half a sentence about its processes, and whether it is certain that they are gone."""
    if end is End.ORDERLY:
        return "its processes were ended with it", True
    if end is End.PENDING or (remains is not None and remains.is_alive):
        return "not all of its processes would end", False
    count = remains.ended if remains is not None else 0
    processes = "1 process" if count == 1 else f"{count} processes"
    if remains is None or not remains.is_certain:
        ended = f"the next worker ended {processes} of it, but " if count else ""
        return f"{ended}nobody can say whether something of it still runs", False
    if count:
        return f"the next worker ended {processes} of it that still ran", True
    return "the next worker found none of its processes left", True


def _say(entry: Entry, sentence: str) -> None:
    with suppress(OSError):
        entry.append_line(f"forge: {sentence}")
