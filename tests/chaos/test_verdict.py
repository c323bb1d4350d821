"""The verdict itself: each promise that was broken is counted, in its own column."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.harms import Damage
from tests.chaos.ledger import Ledger, whole_log
from tests.chaos.verdict import Facts, Score, judge, judge_again

TASK, RUNNER = 7, 3


def attempt(number: int, state: str = "succeeded", *, complete: bool = True) -> dict[str, Any]:
    return {"number": number, "state": state, "runner": RUNNER, "log_complete": complete}


def row(*attempts: dict[str, Any], policy: str = "retry", **fields: Any) -> dict[str, Any]:
    last = attempts[-1]
    return {
        "id": TASK,
        "state": last["state"],
        "reason": "It ended.",
        "attempt": last["number"],
        "runner": last["runner"],
        "lost_runner_policy": policy,
        "log_bytes": 1,
        "log_complete": last["log_complete"],
        "attempts": list(attempts),
        **fields,
    }


def ledger(tmp_path: Path, *lines: str) -> Ledger:
    path = tmp_path / "ledger"
    path.write_text("".join(f"{TASK} {line}\n" for line in lines))
    return Ledger.read(path)


@pytest.fixture
def clean(tmp_path: Path) -> Facts:
    """Cut short after half of its log, run again, and succeeded."""
    written = ledger(tmp_path, "1 start 11", "1 half", "2 start 12", "2 half", "2 end")
    logs = {(TASK, 1): whole_log(TASK, 1, 20), (TASK, 2): whole_log(TASK, 2)}
    rows = {TASK: row(attempt(1, "failed"), attempt(2))}
    return Facts({TASK}, rows, logs, written, Damage())


def score(facts: Facts) -> Score:
    complaints: list[str] = []
    found = judge(facts, complaints)
    assert bool(complaints) == bool(found.broken)
    return found


def test_what_is_as_it_should_be_breaks_nothing(clean: Facts) -> None:
    assert score(clean) == Score(tasks=1)
    assert judge_again(clean, clean.rows, clean.ledger) == []


def test_two_attempts_at_the_same_time_are_an_overlap(clean: Facts, tmp_path: Path) -> None:
    lines = ["1 start 11", "2 overlap", "2 start 12", "2 end"]
    assert score(replace(clean, ledger=ledger(tmp_path, *lines))).overlapped == 1


def test_another_attempt_needs_the_policy(clean: Facts) -> None:
    rows = {TASK: row(attempt(1, "failed"), attempt(2), policy="wait")}
    assert score(replace(clean, rows=rows)).not_permitted == 1


def test_an_attempt_that_was_started_twice_is_counted(clean: Facts, tmp_path: Path) -> None:
    lines = ["1 start 11", "2 start 12", "2 start 13", "2 end"]
    assert score(replace(clean, ledger=ledger(tmp_path, *lines))).started_twice == 1


def test_the_log_of_an_earlier_attempt_has_what_was_written_or_a_mark(clean: Facts) -> None:
    short = {**clean.logs, (TASK, 1): whole_log(TASK, 1, 19)}
    assert score(replace(clean, logs=short)).log_incomplete == 1
    marked = {TASK: row(attempt(1, "lost", complete=False), attempt(2))}
    found = score(replace(clean, logs=short, rows=marked))
    assert (found.log_incomplete, found.marked_gap) == (0, 1)
    # Its runner was heard, and nobody killed it: there is no reason for a mark.
    unfounded = {TASK: row(attempt(1, "failed", complete=False), attempt(2))}
    assert score(replace(clean, rows=unfounded)).log_incomplete == 1


def test_what_was_stopped_before_it_started_may_not_start(clean: Facts) -> None:
    asked = Damage(asked={TASK: "stopped"})
    found = score(replace(clean, damage=asked))
    assert (found.not_permitted, found.wrong_state) == (1, 1)


def test_what_was_asked_to_stop_has_to_be_stopped(clean: Facts) -> None:
    assert score(replace(clean, damage=Damage(asked={TASK: "stopping"}))).wrong_state == 1


def test_only_a_task_that_is_given_up_with_its_silent_runner_may_be_lost(clean: Facts) -> None:
    silent = Damage(silent={RUNNER})
    for policy, wrong in (("fail", 0), ("wait", 1)):
        lost = {TASK: row(attempt(1, "lost", complete=False), policy=policy)}
        found = score(
            replace(clean, rows=lost, damage=silent, ledger=replace(clean.ledger, starts=()))
        )
        assert (found.wrong_state, found.lost) == (wrong, 1)


def test_what_happens_after_the_verdict_is_found(clean: Facts, tmp_path: Path) -> None:
    later = ledger(tmp_path, "1 start 11", "2 start 12", "2 start 14")
    assert judge_again(clean, clean.rows, later) == [
        "1 programs started after their trial was over"
    ]
    changed = {TASK: {**clean.rows[TASK], "state": "failed"}}
    assert judge_again(clean, changed, clean.ledger) == [
        "task 7 had state 'succeeded', and has 'failed' now"
    ]
