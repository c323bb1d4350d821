"""Which processes may come from an attempt, by when and where they began and whose they are."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection
from contextlib import suppress
from typing import Any, NamedTuple

from runners.worker.pid_space import PidSpace
from runners.worker.processes import (
    ancestry,
    cgroup_of,
    command_of,
    environment_of,
    is_watcher,
    status_of,
)
from runners.worker.supervision import boot_seconds

# The kernel counts in hundredths, and rounds.
_SLACK_SECONDS = 0.1
_PROBE_SECONDS = 10.0
# Its child says who has adopted it.
_PROBE = """
import os, time
parent = os.getpid()
if os.fork():
    os._exit(0)
while os.getppid() == parent:
    time.sleep(0.001)
print(os.getppid())
"""

Name = tuple[int, int]  # pid and ticks


def process_name(pid: int) -> Name:
    """What tells it from a later one with its pid; ticks are 0 if they cannot be read."""
    with suppress(OSError):
        return pid, status_of(pid).ticks
    return pid, 0


class Origin(NamedTuple):
    """Where a fork server's tasks come from.

    begun: when it was started, in boot seconds. cgroup: of its worker; None if it is not known.
    heirs: whose children the tasks' processes become when all that watched over them is dead: the
    first one that lives; None if that is not known. space: the process ids of all of them.
    """

    begun: float = 0.0
    cgroup: str | None = None
    heirs: tuple[Name, ...] | None = None
    space: PidSpace = PidSpace()

    def as_json(self) -> dict[str, object]:
        return self._asdict()

    @staticmethod
    def read(noted: Any) -> Origin:
        """What `as_json` wrote; of anything else, and of what is missing, nothing is known."""
        if not isinstance(noted, dict):
            return Origin()
        cgroup, heirs = noted.get("cgroup"), None
        with suppress(TypeError, ValueError):
            heirs = tuple((int(pid), int(ticks)) for pid, ticks in noted.get("heirs") or ()) or None
        cgroup = cgroup if isinstance(cgroup, str) else None
        return Origin(past(noted.get("begun")), cgroup, heirs, PidSpace.read(noted.get("space")))


def past(noted: object) -> float:
    """A time in boot seconds that is over; 0 for everything else."""
    if isinstance(noted, float | int) and 0 <= noted <= boot_seconds():
        return float(noted)
    return 0.0


def find_heirs() -> tuple[Name, ...] | None:
    """Who adopts what this process leaves, and then whom it comes from; None if nobody can say.

    Not to be asked by a process that adopts what is below it.
    """
    try:
        told = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _PROBE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=_PROBE_SECONDS,
        )
        first = int(told.stdout)
        found = tuple((pid, status_of(pid).ticks) for pid in ancestry(first))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return found if first != os.getpid() and found else None


class Descent:
    """Tells the processes that may come from an attempt from those that cannot.

    since: when the attempt was started, in boot seconds. beside: what the environments hold of the
    attempts whose processes others search for and end at this moment, `FORGE_TASK_ID=…` and so on.

    Nothing leaves a trail of its own that a program could not take off; but what is begun by an
    attempt is begun after it, and when its parents are dead, up to the worker, it is the child of
    an heir. So is no shell of somebody who works on the host, and nothing below one, unless the
    host's first process itself started it; and services have control groups of their own.
    """

    def __init__(self, origin: Origin, since: float) -> None:
        self._origin = origin
        self.beside: list[Collection[bytes]] = []
        self._since = since - _SLACK_SECONDS
        self._spared: set[int] = set()
        self._heirs: set[int] | None = None

    def look(self) -> None:
        """Before each look at all processes: who is there now."""
        self._spared = set(ancestry(os.getpid()))  # whoever started this one
        self._heirs = _living(self._origin.heirs)

    def includes(self, pid: int) -> bool:
        """Whether it may come from the attempt."""
        one = pid
        while True:
            try:
                status = status_of(one)
            except PermissionError:
                return True
            except OSError:
                return one != pid  # Its parent has just died: another look will tell.
            if status.begun < self._since or status.parent <= 0 or status.is_dead:
                return False
            if self._is_others(one):
                return False
            if self._is_heir(status.parent):
                return True
            one = status.parent

    def spares(self, pid: int) -> bool:
        """Whether this process comes from it."""
        return pid in self._spared

    def is_orphan(self, pid: int) -> bool:
        """Whether it has lost its parent, as far as anybody can say."""
        with suppress(OSError):
            return status_of(pid).parent in (self._heirs or {1})
        return False

    def is_in_other_scope(self, pid: int) -> bool:
        """Whether it is in a login's control group, or the like, that is not the worker's own."""
        cgroup = cgroup_of(pid)
        return cgroup != self._origin.cgroup and _in_scope(cgroup)

    def _is_heir(self, pid: int) -> bool:
        if self._heirs is not None:
            return pid in self._heirs
        with suppress(OSError):
            return pid == 1 or status_of(pid).begun < self._since
        return True

    def _is_others(self, pid: int) -> bool:
        """Whether it is known to be somebody else's, and so is what is below it."""
        return (
            pid in self._spared
            or is_watcher(pid)  # of another runner, as those of this one are dead
            or b"runners.worker" in command_of(pid)
            or not may_be_from(self._origin.cgroup, cgroup_of(pid))
            or self._is_searched_for(pid)
        )

    def _is_searched_for(self, pid: int) -> bool:
        """Whether it is ended as another attempt's. That its marks are not those of this attempt
        says nothing else: a script may export a FORGE_URL of its own.
        """
        try:
            given = environment_of(pid)
        except OSError:
            return False
        return any(given.issuperset(marks) for marks in self.beside)


def _living(heirs: tuple[Name, ...] | None) -> set[int] | None:
    """Who has adopted what is left: the first of them, unless it has died since."""
    if heirs is None:
        return None
    living = [pid for pid, ticks in heirs if _is_still(pid, ticks)]
    if living and living[0] == heirs[0][0]:
        return {living[0]}
    return {1, *living}


def _is_still(pid: int, ticks: int) -> bool:
    with suppress(OSError):
        status = status_of(pid)
        return status.ticks == ticks and not status.is_dead
    return False


def may_be_from(origin: str | None, cgroup: str) -> bool:
    """Whether what began in one control group may be in the other one now.

    A login as another user (`sudo -i`, `su -l`) and `systemd-run --scope` move it into a scope; by
    itself it may go below its own. Services are started by the service manager, not by a task.
    """
    if origin is None or _in_scope(cgroup):
        return True
    origins = _paths(origin)
    for hierarchy, path in _paths(cgroup).items():
        above = origins.get(hierarchy, path).rstrip("/")
        if path.rstrip("/") != above and not path.startswith(f"{above}/"):
            return False
        if any(part.endswith(".service") for part in path[len(above) :].split("/")):
            return False
    return True


def _in_scope(cgroup: str) -> bool:
    names = {path.rpartition("/")[2] for path in _paths(cgroup).values()}
    # That is the service manager itself, the host's or a user's.
    return any(name.endswith(".scope") and name != "init.scope" for name in names)


def _paths(cgroup: str) -> dict[str, str]:
    """By hierarchy; of lines such as `0::/system.slice/forge-runner.service`."""
    lines = (line.split(":", 2) for line in cgroup.splitlines())
    return {parts[1]: parts[2] for parts in lines if len(parts) == 3}
