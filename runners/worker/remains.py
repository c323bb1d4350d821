"""Ends what is left of an attempt when everything that watched over it was killed.

Then its processes are nobody's any more: they are looked for among all of the host's, by what
Forge gave them. Where others may be its as well (`runners.worker.origin`), nothing is certain.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from runners.worker.fields import printable
from runners.worker.origin import Descent, Name, Origin, process_name
from runners.worker.pid_space import PidSpace
from runners.worker.processes import (
    are_visible,
    directory_of,
    environment_of,
    is_alive,
    name_of,
    process_ids,
    uids_of,
)
from runners.worker.supervision import open_handle, signal_below

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 30.0
MOST_TOLD = 20
LONGEST_NAME = 15
# For how long a process is seen that is not about to end by itself.
DOUBT_SECONDS = 2.0
# For how long others are waited for that come and go: one may have begun the next.
MOST_DOUBT_SECONDS = 10.0
_PAUSE_SECONDS = 0.05
# One look may miss what forks at that moment.
_LOOKS = 2


class Remains(NamedTuple):
    """What was found of an attempt. ended: how many processes of it were ended.

    is_certain: whether nothing of it can be left. is_alive: whether something would not end.
    """

    ended: int
    is_certain: bool
    is_alive: bool = False


class Trail:
    """By what the processes of an attempt are known: environment, user, or the folder they are in.

    url: Forge's, as it was given to them; empty if that is not known. folder: the one that was made
    for the attempt. begun: when it was started, in boot seconds; 0 if only its fork server's time
    is known. uid: of the Unix user that it had for itself, if it had one.
    """

    def __init__(
        self,
        task: int,
        attempt: int,
        url: str,
        folder: Path,
        origin: Origin,
        *,
        begun: float = 0.0,
        uid: int | None = None,
    ) -> None:
        self._task, self._attempt = task, attempt
        # Another Forge on this host may have a task of the same number.
        self._is_known = bool(url)
        marks = (f"FORGE_TASK_ID={task}", f"FORGE_ATTEMPT={attempt}", f"FORGE_URL={url}")
        self._marks = set(map(os.fsencode, marks))
        self._folder = os.fsencode(folder)
        here = PidSpace.here()
        self._is_elsewhere = origin.space.is_other_than(here)
        self._has_ended = self._is_elsewhere and origin.space.has_ended(here)
        # Elsewhere, that may be somebody else's number here.
        self._uid = None if self._is_elsewhere else uid
        self._descent = Descent(origin, begun or origin.begun)

    def beside(self, others: Iterable[Trail]) -> None:
        """These are followed at the same time: what is theirs is ended by them."""
        known = [one._marks for one in others if one is not self and one._is_known]
        self._descent.beside = [*known]

    def end(self) -> Remains:
        """KILL all of it until nothing is found any more, for at most PATIENCE_SECONDS."""
        if not are_visible():
            return Remains(0, is_certain=self._has_ended)
        found = self._end_all()
        if self._is_elsewhere and not self._has_ended:
            return found._replace(is_certain=False)
        return found

    def _end_all(self) -> Remains:
        begun = quiet = time.monotonic()
        ended: set[int] = set()
        first_seen: dict[Name, float] = {}
        doubtful: set[int] = set()
        is_refused = False
        without = 0
        while without < _LOOKS:
            found, suspected = self._look()
            now = time.monotonic()
            is_left = bool(found) or any(map(is_alive, ended))
            if is_left and now - begun > PATIENCE_SECONDS:
                return Remains(len(ended), is_certain=False, is_alive=True)
            for pid in found:
                is_refused |= self._kill(pid, ended)
            if is_left:
                quiet = now
            # One that lasts is doubt enough, and Forge has to hear of it before the lease ends.
            oldest = min((first_seen.setdefault(name, now) for name in suspected), default=0.0)
            may_end = bool(suspected) and now - oldest < DOUBT_SECONDS
            if is_left or (may_end and now - quiet < MOST_DOUBT_SECONDS):
                without, doubtful = 0, set()
            else:
                without, doubtful = without + 1, doubtful | {pid for pid, _ in suspected}
            if without < _LOOKS:
                time.sleep(_PAUSE_SECONDS)
        self._tell(doubtful)
        return Remains(len(ended), is_certain=not (doubtful or is_refused))

    def _tell(self, doubtful: set[int]) -> None:
        """Say what somebody has to look at; at most so many that it can be read."""
        for pid in sorted(doubtful)[:MOST_TOLD]:
            logger.warning(
                "Process %d (%s) may be left of attempt %d of task #%d, whose supervisor was "
                "killed. Look at it, and end it if it is.",
                pid,
                printable(name_of(pid), LONGEST_NAME) or "ended",
                self._attempt,
                self._task,
            )

    def _look(self) -> tuple[list[int], set[Name]]:
        """Its processes, and others that may be its as well."""
        found = []
        suspected = set()
        self._descent.look()
        for pid in process_ids():
            is_its = self._is_its(pid)
            if is_its:
                found.append(pid)
            if is_its is None and not self._has_ended:
                suspected.add(process_name(pid))
        return found, suspected

    def _is_its(self, pid: int) -> bool | None:
        """None if nobody can say."""
        is_inside = False
        try:
            if self._is_known and self._marks <= environment_of(pid):
                return not self._descent.spares(pid)
            is_inside = self._is_inside(directory_of(pid))
        except OSError:
            pass  # It is another user's, or gone, which is seen below.
        if not self._descent.includes(pid):
            return False
        if self._uid is not None and self._uid in uids_of(pid):
            return True
        # Anybody may work in its folder, but for whoever does, somebody waits, or a login has them.
        is_left = is_inside and self._descent.is_orphan(pid)
        return True if is_left and not self._descent.is_in_other_scope(pid) else None

    def _is_inside(self, directory: bytes) -> bool:
        return directory.removesuffix(b" (deleted)") == self._folder or directory.startswith(
            self._folder + b"/"
        )

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
