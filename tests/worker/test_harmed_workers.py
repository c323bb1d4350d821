"""What one task, or the host, does to a worker is no harm to the tasks that follow."""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runners.worker.entry import Entry
from runners.worker.execution import Outcome, Run
from runners.worker.journal import Journal
from runners.worker.lease import Lease
from runners.worker.protocol import Job
from runners.worker.supervision import ForkServer, boot_seconds
from runners.worker.workplace import Workplaces

DELETE_ALL = 'rm -rf "$(dirname "$(dirname "$PWD")")"'
HIGHEST_OF_SELECT = 1024


class Runner:
    """Runs scripts one after the other, as a worker does."""

    def __init__(self, folder: Path, server: ForkServer, *, is_shared: bool = False) -> None:
        self._journal = Journal(folder, is_passable=is_shared)
        self._journal.open()
        self._workplaces = Workplaces(folder, {}, is_shared=is_shared)
        self._workplaces.clear()
        self._server = server
        self._count = 0

    def run(self, script: str, wrote: Callable[[], None] = lambda: None) -> tuple[Outcome, Entry]:
        self._count += 1
        entry = self._journal.create(self._count, 1)
        assert entry is not None
        entry.open("n" * 16)
        job = Job(self._count, 1, "bash", script, {}, 600.0, "p", "t")
        workplace = self._workplaces.of(self._count, 1, None, has_secrets=False)
        lease = Lease(sent=boot_seconds(), seconds=600.0, is_fenced=False)
        run = Run(job, entry, workplace, lease, wrote=wrote)
        return run.execute(self._server, {}, lambda: None), entry


@pytest.fixture
def server() -> Iterator[ForkServer]:
    server = ForkServer()
    server.start()
    yield server
    server.close()


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """This process has more files open than `select` can tell of."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = before[1] if before[1] != resource.RLIM_INFINITY else 2 * HIGHEST_OF_SELECT
    if most < 2 * HIGHEST_OF_SELECT:
        pytest.skip("needs more descriptors than this process may have")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2 * HIGHEST_OF_SELECT, before[1]))
    held: list[int] = []
    while not held or held[-1] <= HIGHEST_OF_SELECT:
        held.append(os.open(os.devnull, os.O_RDONLY))
    yield
    for descriptor in held:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_task_that_deletes_the_folder_of_all_fails_no_other(
    server: ForkServer, is_shared: bool, tmp_path: Path
) -> None:
    runner = Runner(tmp_path, server, is_shared=is_shared)
    mode = stat.S_IMODE((tmp_path / "work").stat().st_mode)
    runner.run(DELETE_ALL)
    assert not (tmp_path / "work").exists()
    outcome, entry = runner.run("echo done")
    assert outcome.outcome == "succeeded" and entry.read(0, 100) == b"done\n"
    assert stat.S_IMODE((tmp_path / "work").stat().st_mode) == mode


@pytest.mark.usefixtures("many_descriptors")
def test_a_worker_may_have_as_many_files_open_as_its_host_lets_it(
    server: ForkServer, tmp_path: Path
) -> None:
    outcome, entry = Runner(tmp_path, server).run("echo one; kill -9 $PPID; sleep 600")
    assert outcome.is_cut_short and entry.read(0, 100) == b"one\n"
    outcome, entry = Runner(tmp_path / "other", server).run("echo one")
    assert outcome.outcome == "succeeded" and entry.read(0, 100) == b"one\n"


def test_the_log_of_what_ends_by_a_fault_of_the_worker_is_marked(
    server: ForkServer, tmp_path: Path
) -> None:
    def fail() -> None:
        raise RuntimeError("a fault")

    outcome, entry = Runner(tmp_path, server).run("seq 10; sleep 600", wrote=fail)
    assert outcome.outcome == "failed" and "RuntimeError: a fault" in outcome.reason
    assert entry.about_log()["log_problem"].startswith("The worker failed")
