"""Processes whose first thread has ended: the kernel calls them zombies, and they run on."""

from __future__ import annotations

import os
import platform
import signal
import sys
from pathlib import Path

import pytest

from runners.worker.supervision import (
    ForkServer,
    StopStep,
    SupervisedProcess,
    SupervisorLostError,
    Terms,
    boot_seconds,
)
from tests.deployment.client import wait_for
from tests.worker.test_supervision import (
    ENVIRONMENT,
    FORCE,
    LIMIT,
    adopt_escapees,
    end_of,
    finish,
    handle_of,
    is_gone,
    no_process_left,
    parent_of,
    python,
    read_line,
    server,
    start_worker,
)

__all__ = ["adopt_escapees", "no_process_left", "server"]

# The number of `exit`, which ends the thread that calls it and no other.
EXIT = {"x86_64": 60, "aarch64": 93}.get(platform.machine())
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or EXIT is None, reason="needs the number of a system call"
)

ROOT = Path(__file__).resolve().parents[2]
# Says its pid, and then only a second thread is left of it.
HEADLESS = f"""
import ctypes, os, threading, time
threading.Thread(target=time.sleep, args=(1000,)).start()
print(os.getpid(), flush=True)
ctypes.CDLL(None).syscall({EXIT}, 0)
"""
# Such a one, in a session of its own, is what a program leaves behind.
LEFT = f"""
import os, sys, time
child = os.fork()
if child == 0:
    os.setsid()
    os.execv(sys.executable, [sys.executable, "-c", {HEADLESS!r}])
while open(f"/proc/{{child}}/stat").read().rpartition(")")[2][1] != "Z":
    time.sleep(0.01)
"""


def await_headless(pid: int) -> int:
    """Wait until its first thread has ended; returns a handle of it."""

    def is_headless() -> bool:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][1] == "Z"

    handle = handle_of(pid)
    wait_for(is_headless, "its first thread has ended")
    return handle


def headless(server: ForkServer, code: str = HEADLESS) -> tuple[SupervisedProcess, int]:
    process = python(server, code)
    return process, await_headless(int(read_line(process)))


@pytest.mark.parametrize("steps", [FORCE, [StopStep(signal.SIGTERM, LIMIT)]])
def test_a_stop_ends_it(server: ForkServer, steps: list[StopStep]) -> None:
    process, handle = headless(server)
    process.stop(steps)
    ending = end_of(process)
    assert ending.signal == steps[0].signal and "sent to 1 process" in ending.steps[0]
    assert is_gone(handle)


def test_it_ends_with_its_lease(server: ForkServer) -> None:
    until = boot_seconds() + 8
    argv = [sys.executable, "-c", HEADLESS]
    terms = Terms(start_by=until, until=until)
    process = server.spawn(argv, environment=ENVIRONMENT, directory=ROOT, terms=terms)
    assert end_of(process).lease_ended


def test_it_is_ended_where_a_program_has_left_it(server: ForkServer) -> None:
    _, ending = finish(python(server, LEFT))
    assert (ending.exit_code, ending.leftovers) == (0, 1)


def test_it_is_ended_when_its_supervisor_is_killed(server: ForkServer) -> None:
    process = python(server, LEFT + "time.sleep(1000)")
    handle = await_headless(int(read_line(process)))
    os.kill(parent_of(process.pid), signal.SIGKILL)
    with pytest.raises(SupervisorLostError):
        process.wait(LIMIT)
    assert is_gone(handle)


def test_it_is_ended_when_its_worker_is_killed() -> None:
    worker, pids = start_worker(HEADLESS)
    handle = await_headless(pids[0])
    worker.kill()
    assert is_gone(handle)
    worker.communicate()
