"""Finds and signals the processes below a subreaper.

A subreaper's descendants cannot leave it: whoever loses its parent is adopted by it, whatever
sessions, groups or environments the process made for itself.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Iterator

_HAS_PROC = os.path.exists("/proc/self/stat")
# Needs CONFIG_PROC_CHILDREN in the kernel; without it all of /proc is read.
_HAS_CHILDREN_FILES = os.path.exists("/proc/thread-self/children")


class Reached:
    """The pids that got a signal, and those that belong to somebody else, as under sudo."""

    def __init__(self) -> None:
        self.signalled: set[int] = set()
        self.refused: set[int] = set()

    def add(self, other: Reached) -> None:
        self.signalled |= other.signalled
        self.refused |= other.refused


def signal_below(root: int, number: int, spare: Collection[int] = ()) -> Reached:
    """Send a signal to every living descendant of `root`, except `spare` and what is below them.

    KILL hits each process the moment it is found, so that a tree that forks all the time has
    little time to; repeat it until waitpid says ECHILD. Other signals go to a snapshot: a
    clean-up that starts because of the signal must not get it too.
    """
    reached = Reached()
    members = {root}
    found: Iterator[int] = _walk(root, spare)
    if number != signal.SIGKILL:
        # A reading may miss the neighbour of a process that exits meanwhile: take two.
        found = iter({pid: None for _ in range(2) for pid in _walk(root, spare)})
    for pid in found:
        members.add(pid)
        _signal_member(pid, number, members, reached)
    return reached


def children_of(pid: int) -> list[int]:
    """Return the children of a process, zombies included; none if it is gone."""
    if not _HAS_CHILDREN_FILES:
        return [child for child, (_, parent) in _all_processes().items() if parent == pid]
    children: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            children += map(int, _read(f"/proc/{pid}/task/{thread}/children").split())
    except OSError:
        pass  # It, or one of its threads, has just exited; its children are elsewhere now.
    return children


def _walk(root: int, spare: Collection[int]) -> Iterator[int]:
    if not _HAS_CHILDREN_FILES:
        yield from _walk_table(root, spare)
        return
    queue = [child for child in children_of(root) if child not in spare]
    seen = set(queue)
    for pid in queue:
        for child in children_of(pid):
            if child not in seen:
                seen.add(child)
                queue.append(child)
        yield pid


def _walk_table(root: int, spare: Collection[int]) -> Iterator[int]:
    """Walk a tree with one look at the whole process table."""
    below: dict[int, list[int]] = {}
    for pid, (_, parent) in _all_processes().items():
        below.setdefault(parent, []).append(pid)
    queue = [child for child in below.get(root, ()) if child not in spare]
    for pid in queue:
        queue += below.get(pid, ())
        yield pid


def _signal_member(pid: int, number: int, members: set[int], reached: Reached) -> None:
    """Signal a process if it is alive and, at this moment, the child of a member."""
    handle = open_handle(pid)
    try:
        # The order matters: once the handle is open it means one process for ever, and what is
        # read now under its pid is either that process or, if that has gone, harmless.
        is_dead, parent = _status_of(pid)
        if is_dead or parent not in members:
            return
        if handle is None:
            os.kill(pid, number)
        else:
            signal.pidfd_send_signal(handle, number)
        reached.signalled.add(pid)
    except PermissionError:
        reached.refused.add(pid)
    except (ProcessLookupError, FileNotFoundError):
        pass
    finally:
        if handle is not None:
            os.close(handle)


def open_handle(pid: int) -> int | None:
    """Open a pidfd; None where there are none (Linux before 5.3, macOS) or no process."""
    try:
        return os.pidfd_open(pid)
    except (OSError, AttributeError):
        return None


def _status_of(pid: int) -> tuple[bool, int]:
    """Return whether it is dead, and the parent's pid; ProcessLookupError if there is none."""
    if not _HAS_PROC:
        return _table_of_ps().get(pid, (True, 0))
    # The name stands in parentheses and may itself contain spaces and parentheses.
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    # One whose first thread has ended is called a zombie, and runs on in its other threads.
    return fields[0] in (b"Z", b"X") and int(fields[17]) <= 1, int(fields[1])


def _all_processes() -> dict[int, tuple[bool, int]]:
    if not _HAS_PROC:
        return _table_of_ps()
    table = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                table[int(name)] = _status_of(int(name))
            except OSError:
                continue
    return table


def _table_of_ps() -> dict[int, tuple[bool, int]]:
    """Best effort for systems without /proc: pid, whether it is dead, and parent from `ps`."""
    with os.popen("ps -A -o pid=,stat=,ppid=") as listing:
        rows = [line.split() for line in listing]
    return {int(pid): (state[0] in "ZX", int(parent)) for pid, state, parent in rows}


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = b""
        while chunk := os.read(descriptor, 65536):
            data += chunk
        return data
    finally:
        os.close(descriptor)
