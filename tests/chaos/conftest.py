"""Made-up tasks that have gone as they should."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.damage import Damage
from tests.chaos.evidence import Facts
from tests.chaos.fabrication import (
    BEFORE_ITS_END,
    HALF,
    KILLED,
    NAMES,
    ONCE,
    PID,
    TASK,
    TWICE,
    attempt,
    ledger,
    logs,
    passed,
    row,
)
from tests.chaos.ledger import whole_log


@pytest.fixture
def again(tmp_path: Path) -> Facts:
    """Cut short with its worker after half of its log, run again, and succeeded."""
    written = ledger(tmp_path, "1 start 11", "1 half", "2 start 12", "2 half", "2 end")
    stored = {(TASK, 1): HALF, (TASK, 2): whole_log(TASK, 2)}
    rows = {TASK: row(attempt(1, "failed", HALF, complete=False), attempt(2))}
    passages = passed(1, *BEFORE_ITS_END) + passed(2, pid=PID + 1)
    return Facts(1, {TASK}, rows, stored, written, KILLED, passages, names=NAMES)


@pytest.fixture
def once(tmp_path: Path) -> Facts:
    """Nobody did anything to it, and it succeeded."""
    written, rows = ledger(tmp_path, *ONCE), {TASK: row(attempt(1))}
    return Facts(1, {TASK}, rows, logs(1), written, Damage(), passed(1), names=NAMES)


@pytest.fixture
def rerun(tmp_path: Path) -> Facts:
    """It ran to its end, is said to have failed, and ran to its end again."""
    rows = {TASK: row(attempt(1, "failed"), attempt(2))}
    passages = passed(1) + passed(2)
    return Facts(
        1, {TASK}, rows, logs(1, 2), ledger(tmp_path, *TWICE), Damage(), passages, names=NAMES
    )
