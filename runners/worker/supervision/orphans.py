"""Ends what is left of a task whose supervisor and fork server were both killed."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from runners.worker.supervision.server.descendants import children_of, signal_below
from runners.worker.supervision.server.kernel import become_subreaper

# As long as a tree grows, it is looked at again at once, so many times in one sweep.
_LOOKS = 100


class Orphans:
    """The children that this process has adopted: below a dead fork server, all of them land here.

    For a process that does nothing but run tasks, and only one such object in it. What is to be
    ended needs no mark, which a program could take off: everything below a fork server is in a
    session that was begun there, while this process's own children are in its own session; of those
    in others, all that is neither a fork server nor the supervisor of a task that goes on is left
    of one that has lost both. Not thread-safe.
    """

    def __init__(self) -> None:
        self._supervisors: set[int] = set()
        self._killed: set[int] = set()
        # Those of them that are collected, as long as one may be taken for a supervisor.
        self._collected: set[int] = set()
        self._greetings = 0

    def adopt(self) -> None:
        """Adopt from now on what loses its parent below here."""
        become_subreaper()

    def begin_greeting(self) -> None:
        """A supervisor is about to be asked for; what is killed from now on may be that one."""
        self._greetings += 1

    def end_greeting(self) -> None:
        """It has said who it is, and `spare` was asked about it, or it never will."""
        self._greetings -= 1
        if not self._greetings:
            # Numbers come back, and these may be those of others by the next time.
            self._collected.clear()

    def spare(self, supervisor: int) -> bool:
        """Let this one go on until `forget`; False if it was killed before one could know it."""
        if supervisor in self._killed or supervisor in self._collected:
            return False
        self._supervisors.add(supervisor)
        return True

    def forget(self, supervisor: int) -> None:
        self._supervisors.discard(supervisor)

    def nudge(self) -> None:
        """Continue supervisors that a task has stopped and whose fork server is dead."""
        for pid in self._supervisors.intersection(children_of(os.getpid())):
            with suppress(OSError):
                os.kill(pid, signal.SIGCONT)

    def sweep(self, server: int | None) -> bool:
        """Kill and reap what is left; True if nothing was. `server` is the fork server that lives.

        Call it again until it says so, and first wait until the dead server is reaped: only then
        its children are here. Those of a dead supervisor are, once that is reaped here.
        """
        for _ in range(_LOOKS):
            # A reading may miss the neighbour of a child that is reaped meanwhile: take two.
            found = {pid for _ in range(2) for pid in self._kill_strays(server)}
            if not found:
                return True
            is_growing = not found <= self._killed
            self._killed |= found
            collected = {pid for pid in found if _reap(pid)}
            self._killed -= collected
            if self._greetings:
                self._collected |= collected
            if not is_growing:
                break
        return False

    def _kill_strays(self, server: int | None) -> set[int]:
        """KILL hits each one the moment it is found: it may be about to fork and leave."""
        found = set()
        for pid in children_of(os.getpid()):
            if pid == server or pid in self._supervisors or self._is_own(pid):
                continue
            # Nobody but this object reaps it, so the number is its own.
            with suppress(OSError):  # dead, or another user's, as under sudo
                os.kill(pid, signal.SIGKILL)
            signal_below(pid, signal.SIGKILL)
            found.add(pid)
        return found

    def reap(self, server: int | None) -> None:
        """Collect supervisors that have ended by themselves after their fork server was killed."""
        for pid in set(children_of(os.getpid())) - self._supervisors - {server}:
            if not self._is_own(pid):
                _reap(pid)

    def _is_own(self, pid: int) -> bool:
        try:
            return os.getsid(pid) == os.getsid(0)
        except ProcessLookupError:
            return False


def _reap(pid: int) -> bool:
    """Whether it is dead and collected. One by one: other children are for others to await."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return True
