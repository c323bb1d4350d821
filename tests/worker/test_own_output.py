"""A program that reads what it has written keeps nobody waiting but itself."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runners.worker.entry import Entry
from runners.worker.execution import Run
from runners.worker.lease import Lease
from runners.worker.protocol import Job
from runners.worker.supervision import ForkServer, boot_seconds, is_readable
from runners.worker.workplace import Workplaces
from tests.deployment.client import wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

LIMIT = 60.0
SCRIPT = "echo $$; while [ ! -e {gate} ]; do sleep 0.01; done; echo taken; sleep 600"


@pytest.fixture
def server() -> Iterator[ForkServer]:
    server = ForkServer()
    server.start()
    yield server
    server.close()


# Takes what was written, a moment after that was announced to everybody who waits for it.
READER = """
import contextlib, mmap, os, select, sys, time
output = os.open(f"/proc/{sys.argv[1]}/fd/1", os.O_RDONLY | os.O_NONBLOCK)
with open(sys.argv[2], "r+b") as file:
    told = mmap.mmap(file.fileno(), 1)
told[0] = 1
select.select([output], [], [])
time.sleep(0.1)
with contextlib.suppress(BlockingIOError):
    os.read(output, 1000)
told[0] = 2
"""


@pytest.fixture
def undisturbed() -> Iterator[None]:
    """A thread that computes keeps the interpreter to itself."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(LIMIT)
    yield
    sys.setswitchinterval(before)


def run_of(
    entry: Entry, folder: Path, script: str, *, limit: float, wrote: Callable[[], None]
) -> Run:
    (folder / "runner").mkdir()
    workplaces = Workplaces(folder / "runner", {}, is_shared=False)
    workplaces.clear()
    job = Job(entry.task, entry.attempt, "bash", script, {}, limit, "p", "t")
    lease = Lease(sent=boot_seconds(), seconds=600.0, is_fenced=False)
    workplace = workplaces.of(entry.task, entry.attempt, None, has_secrets=False)
    return Run(job, entry, workplace, lease, wrote=wrote)


@pytest.mark.usefixtures("undisturbed")
def test_its_time_limit_holds_also_where_nothing_is_left_of_what_was_announced(
    server: ForkServer, entry: Entry, tmp_path: Path
) -> None:
    gate, told = tmp_path / "gate", tmp_path / "told"
    told.write_bytes(bytes(1))
    script = SCRIPT.format(gate=gate)
    run = run_of(entry, tmp_path, script, limit=30.0, wrote=lambda: None)
    with ThreadPoolExecutor(1) as threads, told.open("r+b") as file:
        outcome = threads.submit(run.execute, server, {}, lambda: None)
        wait_for(lambda: entry.read(0, 20).endswith(b"\n"), "it has said its pid")
        pid = entry.read(0, 20).decode().strip()
        words = mmap.mmap(file.fileno(), 1)
        reader = subprocess.Popen([sys.executable, "-c", READER, pid, told])
        wait_for(lambda: words[0], "somebody else waits for the output too")
        gate.touch()
        # Meanwhile the worker's thread, which waits for this one, knows that there is something.
        while words[0] == 1:
            pass
        try:
            assert outcome.result(LIMIT).reason == "It ran longer than its limit of 30 s."
        finally:
            run.stop("The test is over.", force=True)
            reader.wait(LIMIT)


@pytest.mark.parametrize("is_stopped", [False, True])
def test_who_writes_to_its_output_from_elsewhere_keeps_no_task_from_its_end(
    is_stopped: bool, server: ForkServer, entry: Entry, tmp_path: Path
) -> None:
    """As what the host's service manager runs for it, with the task's output for its own."""
    gate = tmp_path / "gate"
    pipe = list[int]()

    def await_more() -> None:
        # As where the other one always is the faster of the two.
        for descriptor in pipe:
            is_readable(descriptor, LIMIT)

    script = f"echo $$; while [ ! -e {gate} ]; do sleep 0.01; done"
    run = run_of(entry, tmp_path, script, limit=600.0, wrote=await_more)
    entry.log.limit(1_000_000, 1_000_000)
    with ThreadPoolExecutor(1) as threads:
        outcome = threads.submit(run.execute, server, {}, lambda: None)
        wait_for(lambda: entry.read(0, 20).endswith(b"\n"), "it has said its pid")
        output = f"/proc/{entry.read(0, 20).decode().strip()}/fd/1"
        with open(output, "wb") as file:
            writer = subprocess.Popen(["cat", "/dev/zero"], stdout=file)
        pipe.append(os.open(output, os.O_RDONLY | os.O_NONBLOCK))
        try:
            if is_stopped:
                run.stop("Stopped by a person.", force=True)
            else:
                gate.touch()
            assert outcome.result(LIMIT).outcome == ("stopped" if is_stopped else "succeeded")
        finally:
            writer.kill()
            writer.wait()
            os.close(pipe.pop())
    assert "outside of the task's processes" in entry.about_log()["log_problem"]
