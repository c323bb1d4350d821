"""The verdict looks for a cause that is enough, and believes no reason that is not true."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.damage import Damage
from tests.chaos.evidence import LEASE_SECONDS, OFFLINE_SECONDS, Facts
from tests.chaos.fabrication import (
    BEFORE_ITS_END,
    GIVEN_UP,
    HALF,
    KILLED,
    PROGRAM_KILLED,
    REASONS,
    RUNNER,
    SUPERVISOR_LOST,
    TASK,
    attempt,
    ended,
    ledger,
    passed,
    row,
    score,
    silent,
)
from tests.chaos.ledger import BURST, LINES, whole_log
from tests.chaos.reasons import LATE_WORD

LEASE_ENDED = (
    "Forge did not renew the task's lease of 9 s in time, and the task may be run again elsewhere "
    "after that: its processes were ended."
)
NOTHING_RUN = "The runner's worker ended before it started the program; nothing was run."


# --- silences ---


@pytest.fixture
def given_up(once: Facts, tmp_path: Path) -> Facts:
    """Half of its log had come when its runner fell silent, and its policy gave it up."""
    half = ledger(tmp_path, "1 start 11", "1 half")
    begun = replace(once, ledger=half, passages=passed(1, *BEFORE_ITS_END))
    begun = replace(begun, damage=silent(seconds=OFFLINE_SECONDS), arrived={(TASK, 1): len(HALF)})
    return ended(begun, "lost", HALF, complete=False, policy="fail", reason=GIVEN_UP)


@pytest.mark.parametrize("seconds", [0.1, LEASE_SECONDS - 1])
def test_another_attempt_after_a_silence_that_ends_no_lease(again: Facts, seconds: float) -> None:
    """Whether its runner is said to have ended it, or Forge has given it up."""
    ends_itself = seconds > LEASE_SECONDS / 2
    for state, reason, too_soon in (("lost", "", True), ("failed", LEASE_ENDED, not ends_itself)):
        first = attempt(1, state, HALF, complete=False, reason=reason)
        rows = {TASK: row(first, attempt(2))}
        early = replace(again, rows=rows, damage=silent(seconds=seconds))
        assert bool(score(early).not_permitted) == too_soon
        late = replace(early, damage=silent(seconds=LEASE_SECONDS + 3))
        assert score(late).broken == 0


def test_only_what_of_a_silence_falls_into_an_attempt_ends_its_lease(again: Facts) -> None:
    first = attempt(1, "lost", HALF, complete=False)
    found = replace(again, rows={TASK: row(first, attempt(2))}, damage=silent(seconds=12))
    assert score(found).broken == 0
    # It was claimed in the last second of it.
    late = tuple(replace(one, at=13.0) for one in again.passages)
    assert score(replace(found, passages=late)).not_permitted == 1


def test_what_is_given_up_before_its_runner_counts_as_offline(given_up: Facts) -> None:
    assert score(given_up).broken == 0
    found = score(replace(given_up, damage=silent(seconds=0.1)))
    assert (found.wrong_state, found.log_incomplete, found.reason_untrue) == (1, 1, 1)


# --- logs ---


def test_a_marked_log_has_what_had_come_before_the_blow(given_up: Facts) -> None:
    for log in (b"", HALF[:-1]):
        short = ended(given_up, "lost", log, complete=False, policy="fail", reason=GIVEN_UP)
        assert score(short).log_incomplete == 1


def test_line_breaks_are_compared_beside_a_line_of_forges_own(once: Facts, tmp_path: Path) -> None:
    asked = replace(once, damage=Damage(asked={TASK: "running"}, done={TASK}))
    own = b"forge: stopping: Stopped by admin.\n"
    whole = whole_log(TASK, 1)
    for log, wrong in (
        (whole + own, 0),
        (HALF + own + whole[len(HALF) :], 0),
        # It came between two parts of a line, and in front of a line break.
        (whole[:30] + b"\n" + own + whole[30:], 0),
        (HALF[:-1] + b"\n" + own + whole[len(HALF) - 1 :], 0),
        (whole.replace(b"\n", b"") + b"\n" + own, 1),
        (whole[:30] + own + whole[30:], 1),
        (HALF + b"\n" + own + whole[len(HALF) :], 1),
    ):
        assert score(ended(asked, "stopped", log)).log_incomplete == wrong
    # Nobody has harmed what succeeded: nothing is to be said in its log.
    assert score(ended(once, "succeeded", whole + own)).log_incomplete == 1


def test_some_logs_are_long_and_no_part_of_them_is_like_another() -> None:
    long = whole_log(8, 1)
    assert len(long) > 300_000
    lines = long.splitlines()
    assert len(set(lines)) == len(lines) == LINES * BURST
    assert len(whole_log(7, 1).splitlines()) == LINES


# --- stops ---


@pytest.mark.parametrize("answer", ["running", "stopping"])
def test_a_stop_that_was_ignored_is_found_whoever_was_asked(once: Facts, answer: str) -> None:
    ignored = ended(replace(once, damage=Damage(asked={TASK: answer})), "stopped")
    assert score(ignored).wrong_state == 1
    # It was at its end when it was asked.
    before = replace(ignored, damage=Damage(asked={TASK: answer}, done={TASK}))
    assert score(before).broken == 0


# --- reasons ---


@pytest.mark.parametrize(
    "reason",
    [
        "It was never started: no runner has the tags.",
        "The program ended with exit status 1.",
        "",
        REASONS["failed"],
        REASONS["stopped"],
    ],
)
def test_what_succeeded_says_so(once: Facts, reason: str) -> None:
    rows = {TASK: {**once.rows[TASK], "reason": reason}}
    found = score(replace(once, rows=rows))
    assert found.reason_untrue + found.vanished == 1


@pytest.mark.parametrize(
    ("damage", "state", "reason"),
    [
        (Damage(killed={(TASK, 1)}), "failed", PROGRAM_KILLED),
        (Damage(cut={(TASK, 1)}), "failed", SUPERVISOR_LOST),
        (KILLED, "failed", REASONS["failed"]),
        (silent(seconds=12), "lost", GIVEN_UP),
        (Damage(asked={TASK: "running"}), "stopped", "Stopped by admin."),
        (Damage(asked={TASK: "running"}), "stopped", "Force-stopped by admin."),
    ],
)
def test_a_reason_is_that_of_what_was_done_to_the_task(
    damage: Damage, state: str, reason: str, once: Facts, tmp_path: Path
) -> None:
    half = ledger(tmp_path, "1 start 11", "1 half")
    begun = replace(once, ledger=half, passages=passed(1, *BEFORE_ITS_END), damage=damage)
    policy = "fail" if state == "lost" else "wait"
    is_marked = damage is KILLED or state == "lost"
    told = ended(begun, state, HALF, complete=not is_marked, policy=policy, reason=reason)
    assert score(told).broken == 0
    for other in (REASONS["succeeded"], NOTHING_RUN, LEASE_ENDED, "Something went wrong."):
        untrue = ended(begun, state, HALF, complete=not is_marked, policy=policy, reason=other)
        assert score(untrue).reason_untrue == 1
    # The same words, where somebody else was struck.
    assert score(replace(told, damage=Damage())).reason_untrue == 1


def test_the_reason_of_an_earlier_attempt_is_true_as_well(again: Facts) -> None:
    assert score(again).reason_untrue == 0
    for untrue in (NOTHING_RUN, REASONS["succeeded"], LEASE_ENDED, SUPERVISOR_LOST):
        first = attempt(1, "failed", HALF, complete=False, reason=untrue)
        rows = {TASK: row(first, attempt(2))}
        assert score(replace(again, rows=rows)).reason_untrue == 1


def test_a_reason_names_the_runner_that_had_it(given_up: Facts) -> None:
    other = GIVEN_UP.replace("host-1", "host-2")
    named = ended(given_up, "lost", HALF, complete=False, policy="fail", reason=other)
    assert score(named).reason_untrue == 1


def test_nobody_may_doubt_what_was_ended_by_who_watched_it(once: Facts, tmp_path: Path) -> None:
    half = ledger(tmp_path, "1 start 11", "1 half")
    begun = replace(once, ledger=half, passages=passed(1, *BEFORE_ITS_END), damage=KILLED)
    doubt = (
        "The runner's worker was killed while it ran; nobody can say whether something of it still "
        "runs."
    )
    told = ended(begun, "failed", HALF, complete=False, policy="wait", reason=doubt)
    assert score(told).reason_untrue == 1
    assert score(replace(told, damage=replace(KILLED, unwatched={RUNNER}))).broken == 0


def test_a_stop_that_came_late_says_how_the_program_ended(once: Facts) -> None:
    late = replace(once, damage=Damage(asked={TASK: "running"}, done={TASK}))
    wish = " A stop was under way: Stopped by admin."
    assert score(ended(late, "stopped", reason=REASONS["succeeded"] + wish)).broken == 0
    for untrue in (REASONS["failed"] + wish, wish, REASONS["succeeded"]):
        assert score(ended(late, "stopped", reason=untrue)).reason_untrue == 1


@pytest.mark.parametrize(
    ("end", "untrue"),
    [
        ("What was left of it was ended, with exit status -9.", 0),
        ("The program ended with exit status 0.", 1),
        ("Nobody knows.", 1),
    ],
)
def test_what_its_runner_says_of_a_lost_task_afterwards_is_seen_too(
    end: str, untrue: int, given_up: Facts
) -> None:
    stays = "The task stays lost, because it was given up before."
    late = f"{GIVEN_UP}{LATE_WORD}2026-11-27 16:42 UTC: {end} {stays}"
    told = ended(given_up, "lost", HALF, complete=False, policy="fail", reason=late)
    assert score(told).reason_untrue == untrue
