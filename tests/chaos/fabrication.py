"""Made-up facts of one task, for the verdict to judge."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.chaos.conductor import PLACES, Passage
from tests.chaos.damage import Damage, Key, Silence
from tests.chaos.evidence import Facts
from tests.chaos.ledger import Ledger, whole_log
from tests.chaos.verdict import Score, judge

TASK, RUNNER, PID = 7, 3, 500
NAMES: dict[int | None, str] = {RUNNER: "host-1"}
HALF = whole_log(TASK, 1, 20)
ONCE = ("1 start 11", "1 half", "1 end")
TWICE = (*ONCE, "2 start 12", "2 half", "2 end")
# Its worker was killed, in whichever attempt it had.
KILLED = Damage(workers={RUNNER: PID})
BEFORE_ITS_END = ("hint popped", "process started", "mid-log")
REASONS = {
    "succeeded": "The program ended with exit status 0. 1 process that it left running was ended.",
    "failed": "The runner's worker was killed while it ran; its processes were ended with it.",
    "stopped": "Stopped by admin.",
    "lost": "Runner host-1 was out of reach, and ends its processes with their lease.",
}
PROGRAM_KILLED = "The program was ended by signal 9 (SIGKILL)."
SUPERVISOR_LOST = (
    "The task's supervisor was lost: the supervisor of process 11 died without a report. What "
    "there was of it was ended."
)
GIVEN_UP = (
    "Runner host-1 went silent, and nobody could say how the task ended. Its template says to "
    "give up at once; it may have run on there."
)


def attempt(
    number: int,
    state: str = "succeeded",
    log: bytes | None = None,
    *,
    complete: bool = True,
    reason: str = "",
) -> dict[str, Any]:
    """What the API says of it; `log` is what was stored, all that it writes if it is None."""
    stored = whole_log(TASK, number) if log is None else log
    return {
        "number": number,
        "state": state,
        "reason": reason or REASONS[state],
        "runner": RUNNER,
        "log_complete": complete,
        "log_bytes": len(stored),
        "log_sha256": hashlib.sha256(stored).hexdigest(),
    }


def row(*attempts: dict[str, Any], policy: str = "retry", **fields: Any) -> dict[str, Any]:
    """What the API says of the task."""
    last = attempts[-1]
    return {
        "id": TASK,
        "state": last["state"],
        "reason": last["reason"],
        "exit_code": 0 if last["state"] == "succeeded" else None,
        "attempt": last["number"],
        "max_attempts": 20,
        "runner": last["runner"],
        "started_at": "2026-01-01T00:00:00Z",
        "lost_runner_policy": policy,
        "log_bytes": last["log_bytes"],
        "log_complete": last["log_complete"],
        "attempts": list(attempts),
        **fields,
    }


def ledger(folder: Path, *lines: str) -> Ledger:
    path = folder / "ledger"
    path.write_text("".join(f"{TASK} {line}\n" for line in lines))
    return Ledger.read(path)


def logs(*numbers: int) -> dict[Key, bytes]:
    """Whole ones, of these attempts."""
    return {(TASK, number): whole_log(TASK, number) for number in numbers}


def passed(number: int, *places: str, pid: int = PID) -> tuple[Passage, ...]:
    """The attempt came to these places, or to all, in the first second."""
    return tuple(Passage(place, TASK, number, pid, at=1.0) for place in places or PLACES)


def silent(runner: int = RUNNER, *, seconds: float = 5.0) -> Damage:
    """Nothing was heard of the runner while it had the task."""
    return Damage(silences=[Silence(runner, since=2.0, until=2.0 + seconds)])


def score(facts: Facts) -> Score:
    complaints: list[str] = []
    found = judge(facts, complaints)
    assert bool(complaints) == bool(found.broken)
    return found


def ended(
    facts: Facts,
    state: str,
    log: bytes = whole_log(TASK, 1),
    *,
    complete: bool = True,
    reason: str = "",
    **fields: Any,
) -> Facts:
    """As `facts`, and its only attempt ended so."""
    rows = {TASK: row(attempt(1, state, log, complete=complete, reason=reason), **fields)}
    return replace(facts, rows=rows, logs={(TASK, 1): log})
