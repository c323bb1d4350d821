"""Leases as the worker counts them, and what a stop puts into the log."""

from __future__ import annotations

import ast
import signal
from pathlib import Path

import pytest

from runners.worker.entry import Entry
from runners.worker.lease import Lease
from runners.worker.stop_report import StopReport
from runners.worker.supervision import Ending, StepDone

WORKER = Path(__file__).parents[2] / "runners" / "worker"


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
