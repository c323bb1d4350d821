"""What became of a trial's tasks, against a ledger that the tasks' own programs wrote."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from tests.chaos.harms import Damage
from tests.chaos.ledger import Ledger, whole_log

TERMINAL = {"succeeded", "failed", "stopped", "lost"}
# A line of Forge's own in a log: of a stop, or of a worker that was killed. What the program wrote
# is before it.
MARK = b"forge: "


def as_written(log: bytes) -> bytes:
    """What the program wrote of a log, before Forge's own lines and their line break."""
    own, mark, _ = log.partition(MARK)
    return own.removesuffix(b"\n") if mark else log


@dataclass
class Score:
    """Counts of one or more trials. All but the first and the last two must stay zero."""

    tasks: int = 0
    vanished: int = 0
    started_twice: int = 0
    not_permitted: int = 0
    overlapped: int = 0
    wrong_state: int = 0
    log_incomplete: int = 0
    late: int = 0
    lost: int = 0
    marked_gap: int = 0

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
            + self.log_incomplete
            + self.late
        )


@dataclass(frozen=True)
class Facts:
    """What is known of one trial when all is over.

    accepted: ids that Forge answered to; rows: the API's last word on each task; logs: by task and
    attempt.
    """

    accepted: set[int]
    rows: dict[int, dict[str, Any]]
    logs: dict[tuple[int, int], bytes]
    ledger: Ledger
    damage: Damage


def judge(facts: Facts, complain: list[str]) -> Score:
    """Count; what broke a promise is described in `complain`."""
    score = Score(tasks=len(facts.accepted | facts.rows.keys()))
    for task in sorted(facts.accepted | facts.rows.keys()):
        row = facts.rows.get(task)
        if row is None or row["state"] not in TERMINAL or not row["reason"]:
            score.vanished += 1
            complain.append(f"task {task} vanished: {row}")
            continue
        _judge_starts(score, facts, row, complain)
        _judge_state(score, facts, row, complain)
        for attempt in row["attempts"]:
            _judge_log(score, facts, row, attempt, complain)
    return score


def _judge_starts(score: Score, facts: Facts, row: dict[str, Any], complain: list[str]) -> None:
    task, counts = row["id"], facts.ledger.attempts_of(row["id"])
    if any(count > 1 for count in counts.values()):
        score.started_twice += 1
        complain.append(f"task {task} started twice in one attempt: {dict(counts)}")
    if len(counts) > 1 and row["lost_runner_policy"] != "retry":
        score.not_permitted += 1
        complain.append(f"task {task} started again without permission: {dict(counts)}")
    if counts and facts.damage.asked.get(task) == "stopped":
        score.not_permitted += 1
        complain.append(f"task {task} started although it was stopped before: {dict(counts)}")
    if any(one == task for one, _ in facts.ledger.overlaps):
        score.overlapped += 1
        complain.append(f"task {task} ran in two attempts at the same time: {dict(counts)}")


def _judge_state(score: Score, facts: Facts, row: dict[str, Any], complain: list[str]) -> None:
    allowed = _allowed(facts, row)
    if row["state"] == "lost":
        score.lost += 1
    if row["state"] not in allowed:
        score.wrong_state += 1
        complain.append(f"task {row['id']} ended {row['state']!r} ({row['reason']}), not {allowed}")


def _allowed(facts: Facts, row: dict[str, Any]) -> set[str]:
    damage = facts.damage
    if damage.asked.get(row["id"]):
        return {"stopped"}
    allowed = {"succeeded"} if (row["id"], row["attempt"]) in facts.ledger.ends else set()
    if row["id"] in damage.tasks or row["runner"] in damage.runners:
        allowed |= {"failed"}
    if row["runner"] in damage.runners:
        allowed |= {"lost"}
    if row["runner"] in damage.silent and row["lost_runner_policy"] == "fail":
        allowed |= {"lost"}
    return allowed


def _judge_log(
    score: Score,
    facts: Facts,
    row: dict[str, Any],
    attempt: dict[str, Any],
    complain: list[str],
) -> None:
    key = row["id"], attempt["number"]
    log, whole = as_written(facts.logs[key]), whole_log(*key)
    is_marked = not attempt["log_complete"]
    may_be_marked = attempt["runner"] in facts.damage.runners | facts.damage.silent
    # One that was given up while its runner was silent, and has another after it.
    may_be_marked |= attempt["state"] == "lost" and attempt["number"] < row["attempt"]
    least = b"" if is_marked else facts.ledger.written_at_least(*key).removesuffix(b"\n")
    if is_marked and may_be_marked:
        score.marked_gap += 1
    if (is_marked and not may_be_marked) or not (whole.startswith(log) and log.startswith(least)):
        score.log_incomplete += 1
        complain.append(
            f"task {key[0]} attempt {key[1]} ({attempt['state']}): a log of {len(log)} bytes, "
            f"complete: {not is_marked}, of {len(whole)}, {len(least)} written for certain"
        )


def judge_again(facts: Facts, rows: dict[int, dict[str, Any]], ledger: Ledger) -> list[str]:
    """What has changed of a trial's tasks since they were judged: nothing may."""
    complaints = []
    late = len(ledger.of(facts.rows).starts) - len(facts.ledger.starts)
    if late:
        complaints.append(f"{late} programs started after their trial was over")
    for task, row in facts.rows.items():
        for name in ("state", "attempt", "log_bytes", "log_complete"):
            now = rows.get(task, {}).get(name)
            if now != row[name]:
                complaints.append(f"task {task} had {name} {row[name]!r}, and has {now!r} now")
    return complaints


def total(scores: Iterable[Score]) -> Score:
    found = Score()
    for score in scores:
        found += score
    return found
