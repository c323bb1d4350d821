"""What /proc says of the processes of this host."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
# Fork servers and supervisors, as they call themselves.
_WATCHERS = ("forge-forkserve", "forge-supervise")


class Status(NamedTuple):
    """One process. parent: 0 if that is not of this /proc. ticks: when it began, as the kernel
    counts; with its pid it is the name of one process for as long as the host runs."""

    state: str
    parent: int
    threads: int
    ticks: int

    @property
    def begun(self) -> float:
        """In boot seconds, up to a hundredth too early."""
        return self.ticks / os.sysconf("SC_CLK_TCK")

    @property
    def is_dead(self) -> bool:
        """It need not be collected, but holds no locks and ports any more."""
        # The first of several threads may have ended before the others.
        return self.state in "ZX" and self.threads <= 1


def are_visible() -> bool:
    """Whether all processes can be seen: there is a /proc, and it hides nobody (`hidepid`)."""
    try:
        status_of(1)
    except OSError:
        return False
    return True


def process_ids() -> Iterator[int]:
    """Of all processes that can be seen; none without /proc."""
    with suppress(OSError):
        for name in os.listdir(PROC):
            if name.isdigit():
                yield int(name)


def status_of(pid: int) -> Status:
    """Raises OSError if it is gone."""
    text = (PROC / str(pid) / "stat").read_text(errors="replace")
    # The name before it stands in parentheses and may hold anything.
    fields = text.rpartition(")")[2].split()
    if len(fields) < 20:
        raise ProcessLookupError(pid)
    return Status(fields[0], int(fields[1]), int(fields[17]), int(fields[19]))


def is_alive(pid: int) -> bool:
    with suppress(OSError):
        return not status_of(pid).is_dead
    return False


def command_of(pid: int) -> list[bytes]:
    """Its program and arguments; none if it is gone."""
    with suppress(OSError):
        line = (PROC / str(pid) / "cmdline").read_bytes()
        return line.rstrip(b"\0").split(b"\0") if line else []
    return []


def environment_of(pid: int) -> set[bytes]:
    """`NAME=value`, as it was given them. Raises OSError, PermissionError if it is another's."""
    return set((PROC / str(pid) / "environ").read_bytes().split(b"\0"))


def directory_of(pid: int) -> bytes:
    """Where it works; ends in ` (deleted)` if that is gone. Raises OSError as for the others."""
    return os.readlink(os.fsencode(PROC / str(pid) / "cwd"))


def uids_of(pid: int) -> set[int]:
    """Its users: the real, the effective, the saved one, and that of its files; none if gone."""
    with suppress(OSError):
        for line in (PROC / str(pid) / "status").read_text(errors="replace").splitlines():
            if line.startswith("Uid:"):
                return set(map(int, line.split()[1:]))
    return set()


def cgroup_of(pid: int) -> str:
    """The control groups that it is in, as the kernel writes them; empty where there are none."""
    with suppress(OSError):
        return (PROC / str(pid) / "cgroup").read_text()
    return ""


def name_of(pid: int) -> str:
    """As `ps` and `top` show it; empty if it is gone."""
    with suppress(OSError):
        return (PROC / str(pid) / "comm").read_text(errors="replace").strip()
    return ""


def is_watcher(pid: int) -> bool:
    """Whether it is a fork server or a supervisor."""
    return name_of(pid) in _WATCHERS


def ancestry(pid: int) -> Iterator[int]:
    """A process and those that it comes from."""
    with suppress(OSError):
        while pid > 0:
            yield pid
            pid = status_of(pid).parent
