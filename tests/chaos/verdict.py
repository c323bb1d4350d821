"""What became of a trial's tasks, against a ledger that the tasks' own programs wrote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from tests.chaos.harms import Damage

LINES = 40
LAST_BEFORE_GATE = LINES // 2
TERMINAL = {"succeeded", "failed", "stopped", "lost"}

# Says that it started, writes half of its log, waits for its gate if it has one, writes the rest.
SCRIPT = f"""me="$FORGE_TASK_ID $FORGE_ATTEMPT"
echo "$me start $$" >> {{ledger}}
for n in $(seq {LAST_BEFORE_GATE}); do echo "line $n of $me"; done
{{wait}}
for n in $(seq {LAST_BEFORE_GATE + 1} {LINES}); do echo "line $n of $me"; done
echo "$me end" >> {{ledger}}"""


def whole_log(task: int, attempt: int) -> bytes:
    lines = [f"line {number} of {task} {attempt}\n" for number in range(1, LINES + 1)]
    return "".join(lines).encode()


@dataclass
class Score:
    """Counts of one or more trials. All but the first and the last two must stay zero."""

    tasks: int = 0
    vanished: int = 0
    started_twice: int = 0
    not_permitted: int = 0
    wrong_state: int = 0
    log_incomplete: int = 0
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
            + self.wrong_state
            + self.log_incomplete
        )


@dataclass(frozen=True)
class Facts:
    """What is known of one trial when all is over.

    accepted: ids that Forge answered to; rows: the API's last word on each task; retried: ids
    whose template permits another attempt.
    """

    accepted: set[int]
    rows: dict[int, dict[str, Any]]
    logs: dict[int, bytes]
    starts: list[tuple[int, int, int]]
    ends: set[tuple[int, int]]
    damage: Damage
    retried: set[int]


def judge(facts: Facts, complain: list[str]) -> Score:
    """Count; what broke a promise is described in `complain`."""
    score = Score(tasks=len(facts.accepted | facts.rows.keys()))
    for task in sorted(facts.accepted | facts.rows.keys()):
        row = facts.rows.get(task)
        if row is None or row["state"] not in TERMINAL or not row["reason"]:
            score.vanished += 1
            complain.append(f"task {task} vanished: {row}")
            continue
        _judge_starts(score, facts, task, complain)
        _judge_state(score, facts, row, complain)
        _judge_log(score, facts, row, complain)
    return score


def _judge_starts(score: Score, facts: Facts, task: int, complain: list[str]) -> None:
    counts = Counter(attempt for one, attempt, _ in facts.starts if one == task)
    if any(count > 1 for count in counts.values()):
        score.started_twice += 1
        complain.append(f"task {task} started twice in one attempt: {dict(counts)}")
    if len(counts) > 1 and task not in facts.retried:
        score.not_permitted += 1
        complain.append(f"task {task} started again without permission: {dict(counts)}")


def _judge_state(score: Score, facts: Facts, row: dict[str, Any], complain: list[str]) -> None:
    has_ended = (row["id"], row["attempt"]) in facts.ends
    is_harmed = row["id"] in facts.damage.tasks or row["runner"] in facts.damage.runners
    allowed = {"succeeded"} if has_ended else set()
    if is_harmed:
        allowed |= {"failed"}
    if row["runner"] in facts.damage.runners:
        allowed |= {"lost"}
    if row["state"] == "lost":
        score.lost += 1
    if row["state"] not in allowed:
        score.wrong_state += 1
        complain.append(f"task {row['id']} ended {row['state']!r} ({row['reason']}), not {allowed}")


def _judge_log(score: Score, facts: Facts, row: dict[str, Any], complain: list[str]) -> None:
    log, whole = facts.logs[row["id"]], whole_log(row["id"], row["attempt"])
    is_as_written = log == whole if row["state"] == "succeeded" else whole.startswith(log)
    is_marked = not row["log_complete"]
    if is_marked and row["runner"] in facts.damage.runners:
        score.marked_gap += 1
    elif is_marked or not is_as_written:
        score.log_incomplete += 1
        complain.append(
            f"task {row['id']} ({row['state']}): a log of {len(log)} bytes, "
            f"complete: {row['log_complete']}, of {len(whole)} written"
        )


def total(scores: Iterable[Score]) -> Score:
    found = Score()
    for score in scores:
        found += score
    return found
