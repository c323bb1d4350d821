"""What became of a trial's tasks, against a ledger that the tasks' own programs wrote."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from tests.chaos.evidence import Facts, Row
from tests.chaos.ledger import Ledger, whole_log
from tests.chaos.logs import OWN_LINE, held_of
from tests.chaos.promises import (
    allowed_ends,
    left_alone,
    may_lack_bytes,
    must_be_marked,
    why_contradictory,
    why_not_permitted,
)
from tests.chaos.reasons import LATE_WORD, untrue

TERMINAL = {"succeeded", "failed", "stopped", "lost"}


@dataclass
class Score:
    """Counts of one or more trials. All but the first and the last three must stay zero.

    beside_left: tasks that ran beside what was left of an attempt, since no worker came to say so
    before the lease ended.
    """

    tasks: int = 0
    vanished: int = 0
    started_twice: int = 0
    not_permitted: int = 0
    overlapped: int = 0
    wrong_state: int = 0
    reason_untrue: int = 0
    log_incomplete: int = 0
    late: int = 0
    lost: int = 0
    marked_gap: int = 0
    beside_left: int = 0

    def __add__(self, other: Score) -> Score:
        return Score(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))

    @property
    def broken(self) -> int:
        """How often a promise was not kept."""
        return (
            self.vanished
            + self.started_twice
            + self.not_permitted
            + self.overlapped
            + self.wrong_state
            + self.reason_untrue
            + self.log_incomplete
            + self.late
        )


def judge(facts: Facts, complain: list[str]) -> Score:
    """Count; what broke a promise is described in `complain`."""
    known = facts.accepted | facts.rows.keys()
    score = Score(tasks=len(known))
    if len(facts.rows) > facts.meant:
        score.not_permitted += 1
        complain.append(f"{facts.meant} tasks were asked for, and there are {len(facts.rows)}")
    if len(known) < facts.meant:
        score.vanished += 1
        complain.append(f"{facts.meant} tasks were asked for, and there are only {len(known)}")
    for task in sorted(known):
        row = facts.rows.get(task)
        if row is None or row["state"] not in TERMINAL or not row["reason"]:
            score.vanished += 1
            complain.append(f"task {task} vanished: {row}")
            continue
        _judge_starts(score, facts, row, complain)
        _judge_attempts(score, facts, row, complain)
        _judge_state(score, facts, row, complain)
        _judge_reasons(score, facts, row, complain)
        for attempt in row["attempts"]:
            _judge_log(score, facts, row, attempt, complain)
    return score


def _judge_starts(score: Score, facts: Facts, row: Row, complain: list[str]) -> None:
    """What its programs say of when they ran."""
    task, counts = row["id"], facts.ledger.attempts_of(row["id"])
    if any(count > 1 for count in counts.values()):
        score.started_twice += 1
        complain.append(f"task {task} started twice in one attempt: {dict(counts)}")
    if counts and facts.damage.asked.get(task) == "stopped":
        score.not_permitted += 1
        complain.append(f"task {task} started although it was stopped before: {dict(counts)}")
    found = {attempt for one, attempt in facts.ledger.overlaps if one == task}
    left = set(left_alone(facts, row))
    if found and all({number, number - 1} & left for number in found):
        score.beside_left += 1
    elif found:
        score.overlapped += 1
        complain.append(f"task {task} ran in two attempts at the same time: {dict(counts)}")


def _judge_attempts(score: Score, facts: Facts, row: Row, complain: list[str]) -> None:
    for what in why_not_permitted(facts, row):
        score.not_permitted += 1
        complain.append(f"task {row['id']}: {what}")


def _judge_state(score: Score, facts: Facts, row: Row, complain: list[str]) -> None:
    allowed = allowed_ends(facts, row)
    if row["state"] == "lost":
        score.lost += 1
    if row["state"] not in allowed:
        score.wrong_state += 1
        complain.append(f"task {row['id']} ended {row['state']!r} ({row['reason']}), not {allowed}")
    elif contradiction := why_contradictory(facts, row):
        score.wrong_state += 1
        complain.append(f"task {row['id']} ended {row['state']!r}, but {contradiction}")


def _judge_reasons(score: Score, facts: Facts, row: Row, complain: list[str]) -> None:
    found = list(untrue(facts, row))
    score.reason_untrue += bool(found)
    complain += [f"task {row['id']}: {what}" for what in found]


def _judge_log(
    score: Score, facts: Facts, row: Row, attempt: dict[str, Any], complain: list[str]
) -> None:
    key = row["id"], attempt["number"]
    stored, is_marked = facts.logs[key], not attempt["log_complete"]
    may_be_marked = may_lack_bytes(facts, row, attempt)
    least = 0 if is_marked else len(facts.ledger.written_at_least(*key))
    whole = whole_log(*key)
    held = held_of(stored, whole)
    if is_marked and may_be_marked:
        score.marked_gap += 1
    is_same = is_marked or attempt["log_sha256"] == hashlib.sha256(stored).hexdigest()
    faults = {
        "its length or digest is another than it is said to be": not is_same
        or attempt["log_bytes"] != len(stored),
        "it is not the beginning of what the program writes": held is None,
        f"{least} bytes were written for certain": held is not None and held < least,
        "Forge had more of it before the blow": len(stored) < facts.arrived.get(key, 0),
        "nothing is a reason for its mark": is_marked and not may_be_marked,
        "it lacks the mark that its worker was killed": not is_marked
        and must_be_marked(facts, row, attempt),
        "Forge has written into the log of what succeeded": attempt["state"] == "succeeded"
        and OWN_LINE.search(stored) is not None,
    }
    if any(faults.values()):
        score.log_incomplete += 1
        complain.append(
            f"task {key[0]} attempt {key[1]} ({attempt['state']}): a log of {len(stored)} bytes, "
            f"complete: {not is_marked}, of {len(whole)}: "
            + "; ".join(fault for fault, is_found in faults.items() if is_found)
        )


def judge_again(facts: Facts, rows: dict[int, dict[str, Any]], ledger: Ledger) -> list[str]:
    """What has changed of a trial's tasks since they were judged: nothing may."""
    complaints = []
    late = len(ledger.of(facts.rows).starts) - len(facts.ledger.starts)
    if late:
        complaints.append(f"{late} programs started after their trial was over")
    new = sorted(rows.keys() - facts.rows.keys())
    complaints += [f"task {task} came to be after its trial was over" for task in new]
    for task, row in facts.rows.items():
        later = _without_late_words(rows.get(task, {}))
        for name, before in _without_late_words(row).items():
            now = later.get(name)
            if now != before:
                complaints.append(f"task {task} had {name} {before!r}, and has {now!r} now")
    return complaints


def _without_late_words(row: dict[str, Any]) -> dict[str, Any]:
    """Of what is lost, the reason as it was then: how it ended may be added at any time."""
    if row.get("state") != "lost":
        return row
    attempts = [_without_late_words(one) for one in row.get("attempts", ())]
    known = {"attempts": attempts} if attempts else {}
    return {**row, **known, "reason": row["reason"].partition(LATE_WORD)[0]}


def total(scores: Iterable[Score]) -> Score:
    found = Score()
    for score in scores:
        found += score
    return found
