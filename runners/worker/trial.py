"""Whether this host can start a task: everything that a start needs, for a program that ends."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial

from runners.worker.errors import CrowdedError
from runners.worker.host_watch import FOLDERS, JOURNAL, STARTS
from runners.worker.journal import Journal
from runners.worker.protocol import SecretFile
from runners.worker.supervision import (
    ForkServer,
    HostError,
    SupervisionError,
    Terms,
    boot_seconds,
)
from runners.worker.task_users import TaskUsers
from runners.worker.workplace import Workplace, Workplaces

# If a host has none, its process was there all the same.
_PROGRAM = ["/bin/sh", "-c", "exit 0"]
# No task has this number.
_NOBODYS = 0
_SECRET = SecretFile("TRIAL", "-" * 4096)
_SECONDS = 30.0
# As many as the journal has of a task while that makes its folders: a host where a trial went well
# has room for the claim that follows.
JOURNAL_FILES = 6
# The worker's own, the tunnel's and that of the goodbye, and a task's two.
_FIRST_THREADS = 10


def require_threads() -> None:
    """Raises CrowdedError where this process cannot have those that a worker begins with."""
    is_over = threading.Event()
    held = [threading.Thread(target=is_over.wait, daemon=True) for _ in range(_FIRST_THREADS)]
    try:
        for thread in held:
            thread.start()
    except RuntimeError as error:
        raise CrowdedError(
            f"This host gives the worker too few threads ({error}). Raise its limit of processes "
            "(`ulimit -u`, or TasksMax of its systemd unit), or end what else runs there."
        ) from error
    finally:
        is_over.set()
        for thread in held:
            if thread.ident is not None:
                thread.join()


def start_thread(thread: threading.Thread) -> None:
    """Raises HostError where the host gives this process no thread any more."""
    try:
        thread.start()
    except RuntimeError as error:
        raise HostError(f"no thread for the task: {error}") from error


class Trial:
    """`revive`, after one that went well: there may be a thread again for what waits for one."""

    def __init__(
        self,
        workplaces: Workplaces,
        forks: ForkServer,
        users: TaskUsers,
        *,
        revive: Callable[[], None],
    ) -> None:
        self._workplaces, self._forks, self._users = workplaces, forks, users
        self._revive = revive

    def probes(self, journal: Journal) -> dict[str, Callable[[], None]]:
        """Those of a HostWatch."""
        folders = partial(self._workplaces.probe, more=JOURNAL_FILES)
        return {JOURNAL: journal.probe, FOLDERS: folders, STARTS: self.start}

    def start(self) -> None:
        """Raises HostError or OSError where no task could be started."""
        start_thread(threading.Thread(target=lambda: None, name="forge-trial", daemon=True))
        workplace = self._workplaces.of(_NOBODYS, 1, self._users.next())
        try:
            workplace.make()
            workplace.write_secrets([_SECRET])
            _run(workplace, self._forks)
        finally:
            workplace.remove()
        self._revive()


def _run(workplace: Workplace, forks: ForkServer) -> None:
    until = boot_seconds() + _SECONDS
    try:
        process = forks.spawn(
            _PROGRAM,
            environment={},
            directory=workplace.folder,
            private=workplace.secrets,
            user=workplace.user.as_json() if workplace.user else None,
            terms=Terms(start_by=until, until=until),
        )
        os.close(process.output)
        process.wait()
    except HostError:
        raise
    except SupervisionError:
        return  # it could be started, or the worker ends
