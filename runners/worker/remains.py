"""Ends what is left of an attempt when everything that watched over it was killed.

Then its processes are nobody's any more: they are looked for among all of the host's, by what
Forge gave them. A program that emptied its environment and left its folder is not found.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from runners.worker.supervision import open_handle, signal_below

PATIENCE_SECONDS = 30.0
_PAUSE_SECONDS = 0.05
_PROC = Path("/proc")
# One look may miss what forks at that moment.
_LOOKS = 2
# Fork servers and supervisors, as they call themselves; of other runners, as this one's are dead.
_WATCHERS = ("forge-forkserve", "forge-supervise")


class Origin(NamedTuple):
    """Where a fork server's tasks come from.

    begun: when it was started, in boot seconds. cgroup: of its worker; None if it is not known.
    """

    begun: float
    cgroup: str | None


class Remains(NamedTuple):
    """What was found of an attempt. ended: how many processes of it were ended.

    is_certain: whether nothing of it can be left. is_alive: whether something would not end.
    """

    ended: int
    is_certain: bool
    is_alive: bool = False


class Trail:
    """By what the processes of an attempt are known: their environment, or the folder they are in.

    url: Forge's, as it was given to them. folder: the one that was made for the attempt.
    """

    def __init__(self, task: int, attempt: int, url: str, folder: Path, origin: Origin) -> None:
        # Another Forge on this host may have a task of the same number.
        marks = (f"FORGE_TASK_ID={task}", f"FORGE_ATTEMPT={attempt}", f"FORGE_URL={url}")
        self._marks = set(map(os.fsencode, marks))
        self._folder = os.fsencode(folder) + b"/"
        self._origin = origin

    def end(self) -> Remains:
        """KILL all of it until nothing is found any more, for at most PATIENCE_SECONDS."""
        if not _PROC.joinpath("self", "stat").exists():
            return Remains(0, is_certain=False)
        deadline = time.monotonic() + PATIENCE_SECONDS
        ended: set[int] = set()
        is_refused = False
        without = 0
        while without < _LOOKS:
            found, is_doubtful = self._look()
            is_left = bool(found) or any(map(_lives, ended))
            if is_left and time.monotonic() > deadline:
                return Remains(len(ended), is_certain=False, is_alive=True)
            for pid in found:
                is_refused |= self._kill(pid, ended)
            without = 0 if is_left else without + 1
            if without < _LOOKS:
                time.sleep(_PAUSE_SECONDS)
        return Remains(len(ended), is_certain=not (is_doubtful or is_refused))

    def _look(self) -> tuple[list[int], bool]:
        """Its processes, and whether there are others that may be its as well."""
        found = []
        is_doubtful = False
        spared = set(_ancestry(os.getpid()))  # whoever started this one
        for pid in process_ids():
            if pid in spared:
                continue
            is_its = self._is_its(pid)
            if is_its:
                found.append(pid)
            is_doubtful |= is_its is None
        return found, is_doubtful

    def _is_its(self, pid: int) -> bool | None:
        """None if nobody can say."""
        try:
            given = set((_PROC / str(pid) / "environ").read_bytes().split(b"\0"))
            if self._marks <= given:
                return True
            return os.readlink(os.fsencode(_PROC / str(pid) / "cwd")).startswith(self._folder)
        except PermissionError:
            return None if self._may_be_its(pid) else False
        except OSError:
            return False  # It is gone, or dead and not collected.

    def _may_be_its(self, pid: int) -> bool:
        """Of what cannot be read: whether it was started where and when the attempt was."""
        command = command_of(pid)
        # Without a command line it is the kernel's, or dead; workers hide their environment.
        if not command or b"runners.worker" in command or _is_watched(pid):
            return False
        if self._origin.cgroup is not None and cgroup_of(pid) != self._origin.cgroup:
            return False
        with suppress(OSError, IndexError, ValueError):
            ticks = int(_stat(pid)[19])
            # The kernel counts in hundredths.
            return ticks / os.sysconf("SC_CLK_TCK") >= self._origin.begun - 0.1
        return False

    def _kill(self, pid: int, ended: set[int]) -> bool:
        """KILL it and what is below it; True if some of that may not be signalled."""
        handle = open_handle(pid)
        try:
            if not self._is_its(pid):  # behind the handle is one process for ever
                return False
            below = signal_below(pid, signal.SIGKILL)
            ended |= below.signalled
            if handle is None:
                os.kill(pid, signal.SIGKILL)
            else:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            ended.add(pid)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        finally:
            if handle is not None:
                os.close(handle)
        return bool(below.refused)


def process_ids() -> Iterator[int]:
    """Of all processes that can be seen; none without /proc."""
    with suppress(OSError):
        for name in os.listdir(_PROC):
            if name.isdigit():
                yield int(name)


def command_of(pid: int) -> list[bytes]:
    """Its program and arguments; none if it is gone."""
    with suppress(OSError):
        line = (_PROC / str(pid) / "cmdline").read_bytes()
        return line.rstrip(b"\0").split(b"\0") if line else []
    return []


def cgroup_of(pid: int) -> str:
    """The control groups that it is in, as the kernel writes them; empty where there are none."""
    with suppress(OSError):
        return (_PROC / str(pid) / "cgroup").read_text()
    return ""


def _stat(pid: int) -> list[str]:
    """What follows the name, which may hold anything: state, parent, …"""
    return (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()


def _lives(pid: int) -> bool:
    """Until it is dead it may hold locks and ports; it need not be collected."""
    with suppress(OSError, IndexError):
        return _stat(pid)[0] not in "ZX"
    return False


def _ancestry(pid: int) -> Iterator[int]:
    """A process and those that it comes from."""
    with suppress(OSError, IndexError, ValueError):
        while pid > 0:
            yield pid
            pid = int(_stat(pid)[1])


def _is_watched(pid: int) -> bool:
    """Whether it is a fork server, a supervisor, or below one."""
    for one in _ancestry(pid):
        with suppress(OSError):
            if (_PROC / str(one) / "comm").read_text(errors="replace").strip() in _WATCHERS:
                return True
    return False
