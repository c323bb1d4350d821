"""Fork server and supervisor of a task are both killed: the worker itself ends what is left."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.frozen import freeze

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs a subreaper")

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 60.0
KILL = signal.SIGKILL

# Takes orders from stdin, one a line, and says what came of each: `spawn <script>`, `wait <n>` for
# the n-th program, `own` for a child of its own that is no task's.
WORKER = f"""
import os, subprocess, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from runners.worker.supervision import ForkServer, SupervisorLostError
server = ForkServer(adopts_orphans=True)
programs = []
for line in sys.stdin:
    order, _, rest = line.strip().partition(" ")
    if order == "spawn":
        argv = ["bash", "-c", rest]
        programs.append(server.spawn(argv, environment=dict(os.environ), directory=Path("/")))
        print(programs[-1].pid, flush=True)
    elif order == "own":
        print(subprocess.Popen(["sleep", "1000"]).pid, flush=True)
    elif order == "nudge":
        server.nudge()
        print("nudged", flush=True)
    elif order == "wait":
        program = programs[int(rest)]
        try:
            print(program.wait(), flush=True)
        except SupervisorLostError as error:
            print("lost:", error, flush=True)
    elif order == "read":
        print(os.read(programs[int(rest)].output, 100).decode().strip(), flush=True)
server.close()
"""
# What it leaves has a session of its own, no environment, and nothing of it on the command line.
SCRIPT = "setsid env -i bash -c 'trap \"\" INT TERM; echo $$; exec sleep 1000' & wait"

HOP = """
import os
print(os.getppid(), flush=True)
for hop in range(1_000_000):
    if os.fork():
        os._exit(0)
    os.setsid()
"""


class TaskWorker:
    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self._process.pid
        self._count = 0
        self._started: list[psutil.Process] = []

    def ask(self, order: str) -> str:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(order, file=self._process.stdin, flush=True)
        assert select.select([self._process.stdout], [], [], LIMIT)[0], f"no answer to {order!r}"
        return self._process.stdout.readline().strip()

    def start(self, script: str = SCRIPT) -> list[psutil.Process]:
        """Fork server, supervisor, program, and what it has left behind, of a new task."""
        program = psutil.Process(int(self.ask(f"spawn {script}")))
        left = psutil.Process(int(self.ask(f"read {self._count}")))
        self._count += 1
        supervisor = program.parent()
        assert supervisor is not None
        server = supervisor.parent()
        assert server is not None and server.ppid() == self.pid
        self._started += [server, supervisor, program, left]
        return [server, supervisor, program, left]

    def end(self) -> None:
        """With all that a test which failed has left, such as a supervisor that it has stopped."""
        try:
            self._process.communicate(timeout=LIMIT)
        finally:
            self._process.kill()
            self._process.wait()
            for one in self._started:
                with suppress(psutil.NoSuchProcess):
                    one.kill()

    def children(self) -> set[int]:
        """Dead ones that nobody has collected included."""
        return {child.pid for child in psutil.Process(self.pid).children()}


@pytest.fixture
def worker() -> Iterator[TaskWorker]:
    worker = TaskWorker()
    yield worker
    worker.end()


def await_end(process: psutil.Process) -> None:
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(process.pid)
        try:
            assert select.select([handle], [], [], LIMIT)[0], f"{process} lives on"
        finally:
            os.close(handle)


@pytest.mark.parametrize("first", ["fork server", "supervisor"])
def test_what_has_lost_both_is_gone_before_the_worker_calls_it_lost(
    worker: TaskWorker, first: str
) -> None:
    server, supervisor, program, left = worker.start()
    for victim in (server, supervisor) if first == "fork server" else (supervisor, server):
        victim.kill()
    assert "died without a report" in worker.ask("wait 0")
    assert not program.is_running() and not left.is_running()
    # A server that has ended the tree before it was hit itself may be dying for a moment longer;
    # it is collected when one is needed again.
    assert worker.children() <= {server.pid}
    new_server, *_ = worker.start()
    assert worker.children() == {new_server.pid}


def test_tasks_that_still_have_their_supervisor_and_children_of_the_worker_are_spared(
    worker: TaskWorker,
) -> None:
    own = int(worker.ask("own"))
    server, supervisor, _, left = worker.start()
    _, other, other_program, other_left = worker.start()
    server.kill()
    new_server, _, _, new_left = worker.start()  # by the server that takes its place
    supervisor.kill()
    assert "died without a report" in worker.ask("wait 0")
    assert not left.is_running()
    assert other_left.is_running() and new_left.is_running()
    assert worker.children() == {own, other.pid, new_server.pid}
    # The supervisor that has lost its server goes on, and what it says is heard.
    other_program.kill()
    assert "leftovers=1" in worker.ask("wait 1")
    await_end(other)
    os.kill(own, KILL)


def test_a_stopped_supervisor_without_a_fork_server_is_continued(worker: TaskWorker) -> None:
    server, supervisor, program, left = worker.start()
    server.kill()
    await_end(server)
    freeze(supervisor)
    program.kill()
    assert worker.ask("nudge") == "nudged"
    assert "leftovers=1" in worker.ask("wait 0")
    assert not left.is_running()


def test_a_process_that_hops_from_pid_to_pid_is_caught(worker: TaskWorker, tmp_path: Path) -> None:
    program = tmp_path / "hop.py"
    program.write_text(HOP)
    # Not `wait`: it would end with the first of them, before anybody has looked.
    server, supervisor, _, _ = worker.start(f"{sys.executable} {program} & exec sleep 1000")
    server.kill()
    supervisor.kill()
    assert "died without a report" in worker.ask("wait 0")
    assert worker.children() == set()


# A supervisor, here played by `sleep`, that dies between its request and its greeting.
GREETING = f"""
import subprocess, sys, time
sys.path.insert(0, {str(ROOT)!r})
from runners.worker.supervision.orphans import Orphans
orphans = Orphans()
orphans.adopt()
def killed():
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    while not orphans.sweep(None):
        time.sleep(0.01)
    return child.pid
orphans.begin_greeting()
orphans.begin_greeting()
first = killed()
orphans.end_greeting()
print(orphans.spare(first), orphans.spare(1))
orphans.end_greeting()
print(orphans.spare(first), orphans.spare(killed()))
"""


def test_a_supervisor_that_was_killed_unknown_is_not_taken_for_one_that_lives() -> None:
    """Nothing has run below it: the request may go to another one. Numbers come back later."""
    done = subprocess.run(
        [sys.executable, "-c", GREETING], check=True, capture_output=True, text=True, timeout=LIMIT
    )
    assert done.stdout.split() == ["False", "True", "True", "True"]
