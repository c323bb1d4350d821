"""Made-up facts of one task, for the verdict to judge."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from tests.chaos.conductor import PLACES, Passage
from tests.chaos.damage import Damage, Key, Silence
from tests.chaos.ledger import Ledger, whole_log

TASK, RUNNER, PID = 7, 3, 500


def attempt(
    number: int,
    state: str = "succeeded",
    log: bytes | None = None,
    *,
    complete: bool = True,
    reason: str = "It ended.",
) -> dict[str, Any]:
    """What the API says of it; `log` is what was stored, all that it writes if it is None."""
    stored = whole_log(TASK, number) if log is None else log
    return {
        "number": number,
        "state": state,
        "reason": reason,
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
