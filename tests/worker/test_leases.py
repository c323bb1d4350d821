"""Leases as the worker counts them, what a stop puts into the log, and a predecessor's end."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runners.worker.journal import Entry, Journal
from runners.worker.lease import Lease
from runners.worker.leftovers import Predecessor, close_leftover
from runners.worker.stop_report import StopReport
from runners.worker.supervision import Ending, ForkServer, StepDone

WORKER = Path(__file__).parents[2] / "runners" / "worker"


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    journal = Journal(tmp_path)
    journal.open()
    found = journal.create(7, 1)
    assert found is not None
    found.open(nonce="n" * 16)
    return found


def log_of(entry: Entry) -> bytes:
    return entry.read(0, entry.length)


@pytest.mark.parametrize(("seconds", "until"), [(60.0, 45.0), (12.0, 8.0), (300.0, 285.0)])
def test_a_lease_leaves_time_to_end_what_it_covers(seconds: float, until: float) -> None:
    lease = Lease(sent=1000.0, seconds=seconds, is_fenced=True)
    terms = lease.terms(signal.SIGINT)
    assert (terms.start_by, terms.until) == (1000.0 + until, 1000.0 + until)
    # Until KILL, and after it, as long each time.
    assert terms.steps[0].grace_seconds == (seconds - until) / 2


def test_a_renewal_counts_from_when_its_request_was_sent() -> None:
    lease = Lease(sent=1000.0, seconds=60.0, is_fenced=True)
    assert lease.renew(sent=1010.0, seconds=60.0) == 1055.0
    # An answer that was under way for long takes nothing back.
    assert lease.renew(sent=1001.0, seconds=60.0) == 1055.0


def test_what_is_not_fenced_may_run_on_but_not_start_late() -> None:
    terms = Lease(sent=1000.0, seconds=60.0, is_fenced=False).terms(signal.SIGINT)
    assert (terms.start_by, terms.until) == (1045.0, None)


def test_the_worker_never_asks_what_time_it_is() -> None:
    """A host's clock may be wrong by an hour, or be set while a task runs."""
    asked = set()
    for path in WORKER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                asked.add(f"{node.value.id}.{node.attr}")
    wrong = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today"}
    assert "time.monotonic" in asked and not asked & wrong


def step(name: str, count: int, ended: int, seconds: float) -> StepDone:
    return StepDone(f"SIG{name}", count, ended, 120.0, seconds, "order")


def test_a_stop_is_told_step_by_step() -> None:
    report = StopReport()
    ending = Ending(None, 9, 0, (), seconds=120.44)
    told = [
        *report.step(step("INT", 3, 0, 0.0), "Stopped by ana."),
        *report.step(step("TERM", 1, 2, 120.0), "Stopped by ana."),
        *report.step(step("KILL", 1, 0, 120.4), "Force-stopped by ana."),
        *report.end(ending),
    ]
    assert told == [
        "stopping: Stopped by ana.",
        "sent INT to 3 processes, waiting up to 120 s",
        "2 ended; after 120.0 s sent TERM to 1 process, waiting up to 120 s",
        "stopping: Force-stopped by ana.",
        "after 120.4 s sent KILL to 1 process",
        "all of its processes have ended, 120.4 s after the first signal",
    ]
    assert StopReport().end(ending) == []


def test_forges_lines_begin_lines_of_their_own(entry: Entry) -> None:
    entry.append_line("forge: first")
    entry.append(b"half a li")
    entry.append_line("forge: second")
    entry.append(b"ne\n")
    entry.append_line("forge: third")
    assert log_of(entry) == b"forge: first\nhalf a li\nforge: second\nne\nforge: third\n"


def test_what_a_killed_worker_left_says_whether_anything_ran(entry: Entry) -> None:
    close_leftover(entry, is_gone=False)
    assert entry.result is not None
    assert "nothing was run" in entry.result["reason"] and entry.result["is_cut_short"]
    assert log_of(entry) == b""


def test_of_what_a_host_left_that_was_restarted_nobody_says_that_nothing_ran(entry: Entry) -> None:
    """The note of the start need not have reached the disk."""
    entry.boot = "another start of this host"
    close_leftover(entry, is_gone=True)
    assert entry.result is not None
    assert "whether the program had been started" in entry.result["reason"]
    assert entry.result["is_cut_short"] and entry.result["log_problem"]


@pytest.mark.parametrize("is_gone", [True, False])
def test_only_what_is_surely_gone_counts_as_cut_short(is_gone: bool, entry: Entry) -> None:
    entry.append(b"half a li")
    entry.note_start()
    close_leftover(entry, is_gone=is_gone)
    assert entry.result is not None
    assert entry.result["is_cut_short"] == is_gone
    assert log_of(entry).startswith(b"half a li\nforge: the runner's worker was killed here")


def test_a_worker_waits_for_the_last_process_of_the_one_before(tmp_path: Path) -> None:
    """Of a worker that is killed, here played by a program, whose task takes its time to die."""
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from runners.worker.leftovers import Predecessor\n"
        "from runners.worker.supervision import ForkServer\n"
        f"path = Path({str(tmp_path / 'fork-server')!r})\n"
        "server = ForkServer(lambda pid: Predecessor(path).note(pid))\n"
        "process = server.spawn(['sleep', '1000'], environment=dict(os.environ),\n"
        "                       directory=Path('/'))\n"
        "print(process.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    command = [sys.executable, "-c", code]
    worker = subprocess.run(command, stdout=subprocess.PIPE, cwd=WORKER.parents[1])
    assert Predecessor(tmp_path / "fork-server").await_end()
    assert not Path(f"/proc/{int(worker.stdout)}").exists()


def test_a_number_that_another_process_has_by_now_is_no_predecessor(tmp_path: Path) -> None:
    path = tmp_path / "fork-server"
    assert Predecessor(path).await_end()
    path.write_text(json.dumps({"pid": os.getpid(), "born": "long ago"}))
    assert Predecessor(path).await_end()
    path.write_text("half a li")
    assert Predecessor(path).await_end()


def test_a_fork_server_that_lives_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runners.worker.leftovers.PATIENCE_SECONDS", 0.2)
    server = ForkServer(lambda pid: Predecessor(tmp_path / "fork-server").note(pid))
    server.start()
    assert not Predecessor(tmp_path / "fork-server").await_end()
    server.close()
    assert Predecessor(tmp_path / "fork-server").await_end()
