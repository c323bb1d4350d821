"""A supervisor that dies while its program writes: all that was written is in the log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil

from runners.worker.entry import Entry
from runners.worker.execution import Run
from runners.worker.lease import Lease
from runners.worker.protocol import Job
from runners.worker.supervision import ForkServer, boot_seconds
from runners.worker.workplace import Workplaces
from tests.deployment.client import wait_for

SCRIPT = """
echo one
while [ ! -e {gate} ]; do sleep 0.01; done
echo two
touch {written}
sleep 600
"""


def supervisors() -> list[psutil.Process]:
    every = psutil.Process().children(recursive=True)
    return [one for one in every if one.is_running() and one.name() == "forge-supervise"]


def once(do: Callable[[], None]) -> Callable[[], None]:
    calls: list[bool] = []

    def call() -> None:
        calls.append(True)
        if len(calls) == 1:
            do()

    return call


def test_what_was_read_with_the_news_of_its_death_is_kept(entry: Entry, tmp_path: Path) -> None:
    """Both are there when the worker looks up from what it wrote before."""
    gate, written = tmp_path / "gate", tmp_path / "written"
    (tmp_path / "runner").mkdir()
    workplaces = Workplaces(tmp_path / "runner", {}, is_shared=False)
    workplaces.clear()
    server = ForkServer()
    server.start()

    def strike() -> None:
        gate.touch()
        wait_for(written.exists, "it has written the rest")
        (supervisor,) = supervisors()
        program = supervisor.children()[0]
        supervisor.kill()
        wait_for(lambda: not program.is_running(), "the fork server has ended the program")
        # The server tells of it next, and is done with that when it starts another one.
        server.spawn(["/bin/true"], environment={}, directory=tmp_path).wait()

    try:
        script = SCRIPT.format(gate=gate, written=written)
        job = Job(7, 1, "bash", script, {}, 600.0, "p", "t")
        lease = Lease(sent=boot_seconds(), seconds=600.0, is_fenced=False)
        run = Run(job, entry, workplaces.of(7, 1, None), lease, wrote=once(strike))
        outcome = run.execute(server, {}, lambda: None)
    finally:
        server.close()
    assert outcome.outcome == "failed" and "supervisor was lost" in outcome.reason
    assert entry.read(0, 10_000) == b"one\ntwo\n"
