"""Programs whose start hangs: they can be stopped, and keep nobody else waiting."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from runners.worker.entry import Entry
from runners.worker.execution import Outcome, Run
from runners.worker.lease import Lease
from runners.worker.protocol import Job, SignalStep
from runners.worker.supervision import (
    Control,
    ForkServer,
    StepDone,
    StopStep,
    SupervisedProcess,
    SupervisionError,
    Terms,
    boot_seconds,
)
from runners.worker.workplace import Workplaces
from tests.deployment.client import wait_for
from tests.stalled import Stalled, stalled

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs a subreaper")

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 60.0
GENTLE = [StopStep(signal.SIGINT, LIMIT), StopStep(signal.SIGTERM, LIMIT)]
WORKER = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from runners.worker.supervision import ForkServer
ForkServer().spawn([sys.argv[1]], environment={{}}, directory=Path("/"))
"""


@pytest.fixture
def server() -> Iterator[ForkServer]:
    server = ForkServer()
    server.start()
    yield server
    server.close()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as threads:
        yield threads


@pytest.fixture
def program(threads: ThreadPoolExecutor, tmp_path: Path) -> Iterator[Stalled]:
    with stalled(tmp_path / "bin" / "bash") as program:
        yield program


class Start:
    """A start of the program that hangs by the time this is made."""

    def __init__(
        self,
        threads: ThreadPoolExecutor,
        server: ForkServer,
        program: Stalled,
        terms: Terms | None = None,
    ) -> None:
        self.control = Control()
        self.steps: list[StepDone] = []
        self._started: Future[SupervisedProcess] = threads.submit(
            server.spawn,
            [str(program.path), "-c", "echo ran"],
            environment={"PATH": os.environ["PATH"]},
            directory=Path("/"),
            terms=terms,
            on_step=self.steps.append,
            control=self.control,
        )
        wait_for(program.is_awaited, "the start hangs")
        assert not self._started.done()

    def process(self) -> SupervisedProcess:
        return self._started.result(LIMIT)


def output_of(process: SupervisedProcess) -> str:
    with open(process.output, "rb") as output:
        return output.read().decode()


def test_a_stop_ends_it_without_waiting_for_the_steps(
    threads: ThreadPoolExecutor, server: ForkServer, program: Stalled
) -> None:
    start = Start(threads, server, program)
    start.control.stop(GENTLE)
    process = start.process()
    ending = process.wait(LIMIT)
    assert ending is not None and ending.signal == signal.SIGKILL
    assert not process.has_begun
    assert [(step.signal, step.cause) for step in start.steps] == [("SIGKILL", "order")]
    assert output_of(process) == ""


def test_it_ends_with_its_lease(
    threads: ThreadPoolExecutor, server: ForkServer, program: Stalled
) -> None:
    until = boot_seconds() + 8
    terms = Terms(until + LIMIT, until, (StopStep(signal.SIGINT, LIMIT),))
    start = Start(threads, server, program, terms)
    process = start.process()
    ending = process.wait(LIMIT)
    assert ending is not None and ending.lease_ended
    assert not process.has_begun
    assert output_of(process) == ""


def test_it_goes_on_with_a_lease_that_was_extended_meanwhile(
    threads: ThreadPoolExecutor, server: ForkServer, program: Stalled
) -> None:
    until = boot_seconds() + 8
    start = Start(threads, server, program, Terms(until + LIMIT, until))
    start.control.extend(until + 600)
    wait_for(lambda: boot_seconds() > until + 1, "the first lease is over")
    program.release()
    process = start.process()
    ending = process.wait(LIMIT)
    assert ending is not None and ending.exit_code == 0 and not ending.lease_ended
    assert process.has_begun
    assert output_of(process) == "ran\n"


def test_others_start_meanwhile(
    threads: ThreadPoolExecutor, server: ForkServer, program: Stalled
) -> None:
    hung = Start(threads, server, program)
    other = server.spawn(["echo", "other"], environment=dict(os.environ), directory=Path("/"))
    assert output_of(other) == "other\n" and other.wait(LIMIT) is not None
    program.release()
    process = hung.process()
    assert output_of(process) == "ran\n" and process.wait(LIMIT) is not None


def test_the_fork_server_can_be_closed(
    threads: ThreadPoolExecutor, server: ForkServer, program: Stalled
) -> None:
    start = Start(threads, server, program)
    closing = threads.submit(server.close)
    closing.result(LIMIT)
    with pytest.raises(SupervisionError, match="closed"):
        start.process()


def test_it_dies_with_a_killed_worker(program: Stalled) -> None:
    worker = subprocess.Popen([sys.executable, "-c", WORKER, str(program.path)])
    wait_for(program.is_awaited, "the start hangs")
    tree = psutil.Process(worker.pid).children(recursive=True)
    assert len(tree) == 3  # the fork server, the supervisor, and what would be the program
    worker.kill()
    worker.wait()
    gone, alive = psutil.wait_procs(tree, LIMIT)
    assert not alive and len(gone) == 3


# The attempt whose program it is


class Attempt:
    """Its start hangs by the time this is made."""

    def __init__(
        self,
        threads: ThreadPoolExecutor,
        server: ForkServer,
        program: Stalled,
        entry: Entry,
        folder: Path,
        *,
        limit_seconds: float = 600.0,
        lease_seconds: float = 600.0,
    ) -> None:
        workplaces = Workplaces(folder, {}, is_shared=False)
        workplaces.clear()
        steps = (SignalStep("INT", LIMIT),)
        job = Job(
            entry.task, entry.attempt, "bash", "echo ran", {}, limit_seconds, "p", "t",
            stop_steps=steps, is_fenced=True,
        )  # fmt: skip
        self.run = Run(
            job,
            entry,
            workplaces.of(entry.task, entry.attempt, None),
            Lease(sent=boot_seconds(), seconds=lease_seconds, is_fenced=True),
            wrote=lambda: None,
        )
        self.told = threading.Event()
        self._entry = entry
        self._outcome = threads.submit(self.run.execute, server, {}, self.told.set)
        wait_for(program.is_awaited, "the start hangs")

    def outcome(self) -> Outcome:
        return self._outcome.result(LIMIT)

    def assert_never_began(self) -> None:
        """So it is told; whether it may be run again is another matter."""
        assert not self.told.is_set() and self._entry.started is None
        assert self._entry.has_started
        assert b"ran" not in self._entry.read(0, 10_000)


@pytest.fixture
def path(program: Stalled, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker finds the program that stalls, where the host's own would be."""
    monkeypatch.setenv("PATH", str(program.path.parent), prepend=os.pathsep)


@pytest.mark.usefixtures("path")
def test_the_heartbeats_thread_is_not_kept_by_it(
    threads: ThreadPoolExecutor, server: ForkServer, program: Stalled, entry: Entry, tmp_path: Path
) -> None:
    attempt = Attempt(threads, server, program, entry, tmp_path, lease_seconds=30)

    def beat() -> None:
        attempt.run.renew(sent=boot_seconds(), seconds=600)

    threading.Thread(target=beat, daemon=True).start()
    wait_for(lambda: attempt.run._lease.until > boot_seconds() + 60, "the lease is renewed")
    threads.submit(attempt.run.stop, "Stopped by ana.").result(LIMIT)
    outcome = attempt.outcome()
    assert (outcome.outcome, outcome.reason) == ("stopped", "Stopped by ana.")
    attempt.assert_never_began()
    assert b"forge: sent KILL to 1 process" in entry.read(0, 10_000)


@pytest.mark.usefixtures("path")
def test_its_time_limit_counts(
    threads: ThreadPoolExecutor, server: ForkServer, program: Stalled, entry: Entry, tmp_path: Path
) -> None:
    attempt = Attempt(threads, server, program, entry, tmp_path, limit_seconds=8)
    outcome = attempt.outcome()
    reason = "Its start did not come to an end within its limit of 8 s."
    assert (outcome.outcome, outcome.reason) == ("failed", reason)
    assert f"forge: stopping: {reason}".encode() in entry.read(0, 10_000)
    attempt.assert_never_began()


@pytest.mark.usefixtures("path")
def test_its_lease_ends_it_and_leaves_it_to_forge_whether_it_is_run_again(
    threads: ThreadPoolExecutor, server: ForkServer, program: Stalled, entry: Entry, tmp_path: Path
) -> None:
    attempt = Attempt(threads, server, program, entry, tmp_path, lease_seconds=12)
    outcome = attempt.outcome()
    assert outcome.outcome == "failed" and outcome.is_cut_short
    assert outcome.reason.startswith("Forge did not renew the task's lease of 12 s in time")
    attempt.assert_never_began()
