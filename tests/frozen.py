"""Processes that stand still, for good or until they are continued."""

from __future__ import annotations

from pathlib import Path

import psutil

from tests.deployment.client import wait_for

# Of a thread in /proc: stopped, by a debugger too; dead, or not yet collected.
_STILL = "TtZXx"


def freeze(process: psutil.Process) -> None:
    """SIGSTOP, and wait until it has taken effect: what is just in a fork comes back with a child
    that nobody has seen.

    Raises psutil.NoSuchProcess where there is none.
    """
    process.suspend()
    wait_for(lambda: _stands_still(process), f"process {process.pid} stands still")


def _stands_still(process: psutil.Process) -> bool:
    threads = Path(f"/proc/{process.pid}/task")
    if not threads.is_dir():  # not Linux, or it is gone
        gone = (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
        return not process.is_running() or process.status() in gone
    try:
        lines = [(one / "stat").read_text() for one in threads.iterdir()]
    except (FileNotFoundError, ProcessLookupError):  # one has ended in this moment
        return False
    # Its name stands before, in brackets, and may hold anything.
    return all(line.rpartition(")")[2].split()[0] in _STILL for line in lines)
