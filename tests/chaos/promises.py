"""What may become of a task, by what is known of its trial: its attempts, its end, its logs."""

from __future__ import annotations

from collections.abc import Iterator

from tests.chaos.damage import Key
from tests.chaos.evidence import Attempt, Case, Facts, Row, may_live_on


def why_not_permitted(facts: Facts, row: Row) -> Iterator[str]:
    """Of each attempt that there should not be, in words."""
    numbers = [one["number"] for one in row["attempts"]]
    # What was stopped while it waited was in an attempt that nobody claimed.
    waited = [row["attempt"]] if row["state"] == "stopped" else []
    if row["attempt"] not in numbers[-1:] + waited:
        yield f"it is in attempt {row['attempt']}, and of its attempts {numbers} are known"
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"of its attempts only {numbers} are known"
    if started := facts.ledger.attempts_of(row["id"]).keys() - set(numbers):
        yield f"it started in attempts {sorted(started)}, which Forge does not know"
    latest = max(row["attempt"], *numbers, 1)
    if latest > 1 and row["lost_runner_policy"] != "retry":
        yield f"there are {latest} attempts, which its policy does not allow"
    if latest > row["max_attempts"]:
        yield f"there are {latest} attempts of at most {row['max_attempts']}"
    for attempt in row["attempts"]:
        if attempt["number"] < latest and not may_be_followed(facts, row, attempt):
            number, state = attempt["number"], attempt["state"]
            yield f"nothing was a reason to run it again after attempt {number} ({state})"


def may_be_followed(facts: Facts, row: Row, attempt: Attempt) -> bool:
    """Whether something that was done to it is a reason for another attempt after this one."""
    key, runner = (row["id"], attempt["number"]), attempt["runner"]
    if attempt["state"] not in ("failed", "lost") or may_live_on(attempt):
        return False
    if facts.died_with_worker(key, runner) or key in facts.damage.cut:
        return True
    was_given_up = Case(facts, row, attempt["number"], runner).was_given_up(attempt["state"])
    if key in facts.ledger.ends:
        # It had to be handed over, unless Forge could not wait for it any longer.
        return attempt["state"] == "lost" and was_given_up
    return key not in facts.damage.killed and was_given_up


def left_alone(facts: Facts, row: Row) -> Iterator[int]:
    """The attempts that were given up at the end of their lease, and of which something may live
    on: all was killed that ends it, and the next worker came too late to say so.
    """
    for attempt in row["attempts"]:
        if attempt["state"] == "lost" and attempt["runner"] in facts.damage.unwatched:
            yield attempt["number"]


def allowed_ends(facts: Facts, row: Row) -> set[str]:
    """The states in which it may have ended."""
    if facts.damage.asked.get(row["id"]):
        return {"stopped"}
    key, runner = (row["id"], row["attempt"]), row["runner"]
    allowed = {"succeeded"} if key in facts.ledger.ends else set()
    case = Case(facts, row, row["attempt"], runner)
    if row["lost_runner_policy"] == "fail" and case.was_given_up("lost"):
        allowed |= {"lost"}
    if facts.is_kept(key):
        return allowed
    if key in facts.damage.cut | facts.damage.killed:
        allowed |= {"failed"}
    is_left = runner in facts.damage.unwatched and may_live_on(row)
    if facts.died_with_worker(key, runner) and (is_left or not _may_run_again(row)):
        allowed |= {"failed"}
        if not facts.has_passed(key, "process started"):
            # Its claim may have arrived after all that the worker had to say.
            allowed |= {"lost"}
    return allowed


def _may_run_again(row: Row) -> bool:
    return row["lost_runner_policy"] == "retry" and bool(row["attempt"] < row["max_attempts"])


def why_contradictory(facts: Facts, row: Row) -> str:
    """What of its row does not go with the state in which it ended; empty if all does."""
    key: Key = (row["id"], row["attempt"])
    last = row["attempts"][-1] if row["attempts"] else None
    if last and last["number"] == row["attempt"] and last["state"] != row["state"]:
        return f"its last attempt {last['state']!r}"
    if row["state"] == "succeeded":
        if row["exit_code"] != 0:
            return f"with exit code {row['exit_code']}"
        if not any(start[:2] == key for start in facts.ledger.starts) or not row["started_at"]:
            return "it never started"
    elif row["exit_code"] == 0 and row["state"] != "stopped":
        return "with exit code 0"
    asked = facts.damage.asked.get(row["id"])
    if asked and key in facts.ledger.ends and row["id"] not in facts.damage.done:
        return "its program was let run to its end after the stop was asked for"
    return ""


def must_be_marked(facts: Facts, row: Row, attempt: Attempt) -> bool:
    """Whether nobody can say that the attempt's log is whole: what was on its way to a worker that
    was killed is gone.
    """
    key, runner = (row["id"], attempt["number"]), attempt["runner"]
    return attempt["state"] == "failed" and facts.was_cut_short(key, runner)


def may_lack_bytes(facts: Facts, row: Row, attempt: Attempt) -> bool:
    """Whether the attempt's log may be one that is marked incomplete."""
    case = Case(facts, row, attempt["number"], attempt["runner"])
    if attempt["state"] not in ("failed", "lost"):
        return False
    return case.died_with_worker or case.was_given_up(attempt["state"])
