"""The verdict itself: each promise that was broken is counted, in its own column."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.damage import Damage, Silence
from tests.chaos.evidence import DOUBTS, LEASE_SECONDS, Facts
from tests.chaos.fabrication import (
    BEFORE_ITS_END,
    HALF,
    KILLED,
    PID,
    PROGRAM_KILLED,
    RUNNER,
    SUPERVISOR_LOST,
    TASK,
    attempt,
    ended,
    ledger,
    logs,
    passed,
    row,
    score,
    silent,
)
from tests.chaos.ledger import whole_log
from tests.chaos.reasons import LATE_WORD
from tests.chaos.verdict import Score, judge_again


def test_what_is_as_it_should_be_breaks_nothing(again: Facts, once: Facts) -> None:
    for facts, marked in ((again, 1), (once, 0)):
        assert score(facts) == Score(tasks=1, marked_gap=marked)
        assert judge_again(facts, facts.rows, facts.ledger) == []


# --- how many tasks ---


def test_a_task_that_forge_does_not_have_has_vanished(once: Facts) -> None:
    assert score(replace(once, accepted={TASK, TASK + 1}, meant=2)).vanished == 1
    assert score(replace(once, meant=2)).vanished == 1


def test_a_task_that_nobody_asked_for_is_not_permitted(once: Facts) -> None:
    assert score(replace(once, meant=0)).not_permitted == 1


# --- attempts ---


def test_two_attempts_at_the_same_time_are_an_overlap(again: Facts, tmp_path: Path) -> None:
    lines = ["1 start 11", "1 half", "2 overlap", "2 start 12", "2 half", "2 end"]
    assert score(replace(again, ledger=ledger(tmp_path, *lines))).overlapped == 1


def test_what_runs_beside_what_nobody_told_of_in_time_is_counted_by_itself(
    again: Facts, tmp_path: Path
) -> None:
    """Only where everything was killed that ends a program, and the lease has ended."""
    lines = ["1 start 11", "2 overlap", "2 start 12", "1 half", "2 half", "2 end"]
    found = replace(again, ledger=ledger(tmp_path, *lines))
    all_killed = replace(KILLED, unwatched={RUNNER})
    lost = {TASK: row(attempt(1, "lost", HALF, complete=False), attempt(2))}
    for facts, (overlapped, beside) in (
        (replace(found, rows=lost, damage=all_killed), (0, 1)),
        (replace(found, rows=lost), (1, 0)),
        (replace(found, damage=all_killed), (1, 0)),
    ):
        told = score(facts)
        assert (told.overlapped, told.beside_left) == (overlapped, beside)


def test_an_attempt_that_writes_after_the_next_has_started_overlaps_it(
    again: Facts, tmp_path: Path
) -> None:
    lines = ["1 start 11", "2 start 12", "1 half", "2 half", "2 end"]
    assert score(replace(again, ledger=ledger(tmp_path, *lines))).overlapped == 1


def test_another_attempt_needs_the_policy(again: Facts) -> None:
    rows = {TASK: row(attempt(1, "failed", HALF), attempt(2), policy="wait")}
    assert score(replace(again, rows=rows)).not_permitted == 1


def test_another_attempt_needs_a_reason(again: Facts) -> None:
    """With nobody harmed, with another runner harmed, with its program killed: there is none."""
    for damage in (
        Damage(),
        Damage(workers={RUNNER + 1: PID}),
        Damage(workers={RUNNER: PID + 1}),
        Damage(killed={(TASK, 1)}),
        silent(RUNNER + 1),
    ):
        assert score(replace(again, damage=damage)).not_permitted == 1
    for damage in (Damage(cut={(TASK, 1)}), silent()):
        assert score(replace(again, damage=damage)).not_permitted == 0


def test_a_silence_before_an_attempt_is_no_reason_for_the_next(again: Facts) -> None:
    before = Damage(silences=[Silence(RUNNER, since=-20.0, until=0.0)])
    assert score(replace(again, damage=before)).not_permitted == 1


def test_no_other_attempt_after_one_that_ran_to_its_end(rerun: Facts) -> None:
    for damage in (Damage(), KILLED, silent(), silent(seconds=LEASE_SECONDS - 1)):
        assert score(replace(rerun, damage=damage)).not_permitted == 1


def test_another_attempt_when_the_worker_died_before_it_had_noted_the_end(rerun: Facts) -> None:
    passages = passed(1, *BEFORE_ITS_END, "process exited") + passed(2, pid=PID + 1)
    rows = {TASK: row(attempt(1, "failed", complete=False), attempt(2))}
    assert score(replace(rerun, rows=rows, passages=passages, damage=KILLED)).broken == 0


def test_another_attempt_when_forge_could_not_wait_any_longer_for_the_end(rerun: Facts) -> None:
    past = replace(rerun, damage=silent(seconds=LEASE_SECONDS + 3))
    # It was not given up: it has told how it ended.
    assert score(past).not_permitted == 1
    rows = {TASK: row(attempt(1, "lost"), attempt(2))}
    assert score(replace(past, rows=rows)).broken == 0


def test_no_attempt_follows_one_that_is_said_to_have_succeeded(again: Facts) -> None:
    for state in ("succeeded", "stopped"):
        rows = {TASK: row(attempt(1, state, HALF), attempt(2))}
        assert score(replace(again, rows=rows)).not_permitted == 1


def test_there_are_no_more_attempts_than_are_allowed(tmp_path: Path) -> None:
    last = 40
    earlier = [attempt(number, "failed", b"", reason=SUPERVISOR_LOST) for number in range(1, last)]
    lines = [f"{number} start {number}" for number in range(1, last + 1)]
    facts = Facts(
        meant=1,
        accepted={TASK},
        rows={TASK: row(*earlier, attempt(last))},
        logs={(TASK, one["number"]): b"" for one in earlier} | logs(last),
        ledger=ledger(tmp_path, *lines, f"{last} half", f"{last} end"),
        damage=Damage(cut={(TASK, number) for number in range(1, last)}),
        passages=(),
    )
    assert score(facts).not_permitted == 1
    assert score(replace(facts, rows={TASK: {**facts.rows[TASK], "max_attempts": 40}})).broken == 0


def test_an_attempt_that_was_started_twice_is_counted(again: Facts, tmp_path: Path) -> None:
    lines = ["1 start 11", "1 half", "2 start 12", "2 start 13", "2 half", "2 end"]
    assert score(replace(again, ledger=ledger(tmp_path, *lines))).started_twice == 1


def test_an_attempt_that_forge_does_not_know_is_not_permitted(again: Facts) -> None:
    first, second = again.rows[TASK]["attempts"]
    for known in ([first], [second]):
        rows = {TASK: {**again.rows[TASK], "attempts": known}}
        assert score(replace(again, rows=rows)).not_permitted
    rows = {TASK: row(first, attempt=1)}
    assert score(replace(again, rows=rows)).not_permitted == 1


# --- stops ---


def test_what_was_stopped_before_it_started_may_not_start(again: Facts) -> None:
    asked = replace(KILLED, asked={TASK: "stopped"})
    found = score(replace(again, damage=asked))
    assert (found.not_permitted, found.wrong_state) == (1, 1)


@pytest.mark.parametrize("answer", ["stopping", "running", "refused"])
def test_what_was_asked_to_stop_has_to_be_stopped(answer: str, once: Facts) -> None:
    asked = Damage(asked={TASK: answer}, done={TASK})
    assert score(replace(once, damage=asked)).wrong_state == 1
    assert score(ended(replace(once, damage=asked), "stopped")).broken == 0


def test_what_ended_before_it_was_asked_to_stop_is_as_it_was(once: Facts) -> None:
    assert score(replace(once, damage=Damage(asked={TASK: ""}))).broken == 0


def test_a_stop_that_lets_the_program_run_to_its_end_is_none(once: Facts, tmp_path: Path) -> None:
    asked = replace(once, damage=Damage(asked={TASK: "stopping"}))
    assert score(ended(asked, "stopped")).wrong_state == 1
    half = replace(asked, ledger=ledger(tmp_path, "1 start 11", "1 half"))
    assert score(ended(half, "stopped", HALF)).broken == 0


def test_what_nobody_stopped_is_not_stopped(once: Facts) -> None:
    assert score(ended(once, "stopped")).wrong_state == 1


# --- ends ---


@pytest.mark.parametrize("damage", [KILLED, silent(), Damage()], ids=["killed", "silent", "none"])
@pytest.mark.parametrize("state", ["lost", "failed"])
def test_a_result_in_the_journal_is_never_lost(state: str, damage: Damage, once: Facts) -> None:
    away = ended(replace(once, damage=damage), state, policy="wait")
    assert score(away).wrong_state == 1
    assert score(replace(once, damage=damage)).broken == 0


def test_a_result_in_the_journal_has_its_whole_log(once: Facts) -> None:
    marked = {TASK: row(attempt(1, log=HALF, complete=False))}
    facts = replace(once, rows=marked, logs={(TASK, 1): HALF}, damage=KILLED)
    found = score(facts)
    assert (found.log_incomplete, found.marked_gap) == (1, 0)


def test_what_dies_with_its_worker_fails_and_is_not_lost(once: Facts) -> None:
    begun = replace(once, passages=passed(1, *BEFORE_ITS_END), damage=KILLED)
    assert score(ended(begun, "failed", policy="wait", complete=False)).broken == 0
    assert score(ended(begun, "lost", policy="wait")).wrong_state == 1


def test_what_may_run_again_does_so_when_it_dies_with_its_worker(once: Facts) -> None:
    begun = replace(once, passages=passed(1, *BEFORE_ITS_END), damage=KILLED)
    assert score(ended(begun, "failed")).wrong_state == 1
    assert score(ended(begun, "failed", max_attempts=1, complete=False)).broken == 0


@pytest.mark.parametrize("doubt", DOUBTS)
def test_what_may_live_on_is_not_run_again(doubt: str, again: Facts, once: Facts) -> None:
    """Where everything was killed that ends a program, and nowhere else."""
    all_killed = replace(KILLED, unwatched={RUNNER})
    left = attempt(
        1, "failed", HALF, complete=False, reason=f"Its worker was killed; {doubt} of it."
    )
    rows = {TASK: row(left, attempt(2))}
    assert score(replace(again, rows=rows, damage=all_killed)).not_permitted == 1
    begun = replace(once, passages=passed(1, *BEFORE_ITS_END), logs={(TASK, 1): HALF})
    for damage, wrong in ((all_killed, 0), (KILLED, 1)):
        found = score(replace(begun, rows={TASK: row(left)}, damage=damage))
        assert found.wrong_state == wrong
    # Without a doubt it has to be run again, and that it ran beside the other is an overlap.
    assert score(replace(again, damage=all_killed)).broken == 0
    sure = row(attempt(1, "failed", HALF, complete=False))
    assert score(replace(begun, rows={TASK: sure}, damage=all_killed)).wrong_state == 1


def test_only_what_is_given_up_with_its_silent_runner_may_be_lost(
    once: Facts, tmp_path: Path
) -> None:
    begun = replace(
        once,
        ledger=ledger(tmp_path, "1 start 11"),
        passages=passed(1, *BEFORE_ITS_END),
        damage=silent(),
    )
    for policy, wrong in (("fail", 0), ("wait", 1), ("retry", 1)):
        found = score(ended(begun, "lost", b"", policy=policy))
        assert (found.wrong_state, found.lost) == (wrong, 1)


def test_what_succeeded_has_started_and_ended_with_exit_code_0(once: Facts, tmp_path: Path) -> None:
    for wrong in ({"exit_code": 3}, {"exit_code": None}, {"started_at": None}):
        assert score(ended(once, "succeeded", **wrong)).wrong_state == 1
    for lines in ([], ["1 start 11"], ["1 end"]):
        assert score(replace(once, ledger=ledger(tmp_path, *lines))).wrong_state == 1


def test_what_ended_with_exit_code_0_did_not_fail(once: Facts) -> None:
    struck = replace(once, damage=Damage(killed={(TASK, 1)}))
    assert score(ended(struck, "failed", reason=PROGRAM_KILLED)).broken == 0
    assert score(ended(struck, "failed", exit_code=0)).wrong_state == 1


def test_the_last_attempt_ended_as_the_task_did(again: Facts) -> None:
    rows = {TASK: row(attempt(1, "failed", HALF), attempt(2, "failed"), state="succeeded")}
    rows[TASK]["exit_code"] = 0
    assert score(replace(again, rows=rows)).wrong_state == 1


# --- logs ---


def test_the_log_of_an_earlier_attempt_has_what_was_written_or_a_mark(again: Facts) -> None:
    log = whole_log(TASK, 1, 19)
    short = {**again.logs, (TASK, 1): log}
    unmarked = {TASK: row(attempt(1, "failed", log), attempt(2))}
    assert score(replace(again, logs=short, rows=unmarked)).log_incomplete == 1
    marked = {TASK: row(attempt(1, "failed", log, complete=False), attempt(2))}
    found = score(replace(again, logs=short, rows=marked))
    assert (found.log_incomplete, found.marked_gap) == (0, 1)
    # Its runner was heard, and its worker lived: there is no reason for a mark.
    unfounded = replace(again, logs=short, rows=marked, damage=Damage(cut={(TASK, 1)}))
    assert score(unfounded).log_incomplete == 1


def test_the_log_of_what_was_cut_short_with_its_worker_is_marked(
    again: Facts, once: Facts, tmp_path: Path
) -> None:
    """Also where all is there that it is known to have written: more may have been on its way."""
    unmarked = {TASK: row(attempt(1, "failed", HALF), attempt(2))}
    assert score(replace(again, rows=unmarked)).log_incomplete == 1
    # Its worker lived, or it was another one's.
    for damage in (Damage(cut={(TASK, 1)}), Damage(workers={RUNNER: PID + 1})):
        assert score(replace(again, rows=unmarked, damage=damage)).log_incomplete == 0
    # Nothing of it had been started.
    begun = replace(once, passages=passed(1, "hint popped"), damage=KILLED)
    never = replace(begun, ledger=ledger(tmp_path))
    assert score(ended(never, "failed", b"", policy="wait")).broken == 0


def test_a_log_is_that_of_its_own_attempt(again: Facts) -> None:
    first, second = whole_log(TASK, 2, 20), whole_log(TASK, 1)
    for stored in ({(TASK, 1): first}, {(TASK, 2): second}):
        found = {**again.logs, **stored}
        cut_short = attempt(1, "failed", found[TASK, 1], complete=False)
        rows = {TASK: row(cut_short, attempt(2, log=found[TASK, 2]))}
        assert score(replace(again, rows=rows, logs=found)).log_incomplete == 1


def test_what_comes_after_a_line_of_forges_own_is_looked_at_too(again: Facts) -> None:
    own = b"line 21 of\nforge: the runner's worker was killed here\n"
    for rest, wrong in ((b"", 0), (b" 7 1\n", 0), (b"line 1 of 7 2\n", 1)):
        log = HALF + own + rest
        rows = {TASK: row(attempt(1, "failed", log, complete=False), attempt(2))}
        found = score(replace(again, rows=rows, logs={**again.logs, (TASK, 1): log}))
        assert found.log_incomplete == wrong


def test_a_log_has_the_length_and_the_digest_that_it_is_said_to_have(once: Facts) -> None:
    for wrong in ({"log_bytes": 1}, {"log_sha256": "0" * 64}, {"log_sha256": ""}):
        rows = {TASK: row({**attempt(1), **wrong})}
        assert score(replace(once, rows=rows)).log_incomplete == 1


# --- afterwards ---


def test_what_happens_after_the_verdict_is_found(again: Facts, tmp_path: Path) -> None:
    later = ledger(tmp_path, "1 start 11", "2 start 12", "2 start 14")
    assert judge_again(again, again.rows, later) == [
        "1 programs started after their trial was over"
    ]
    changed = {TASK: {**again.rows[TASK], "state": "failed"}}
    assert judge_again(again, changed, again.ledger) == [
        "task 7 had state 'succeeded', and has 'failed' now"
    ]
    lost = row(attempt(1, "lost", HALF, complete=False, reason="It went silent."))
    told = row(attempt(1, "lost", HALF, complete=False, reason=f"It went silent.{LATE_WORD}12:00."))
    facts = replace(again, rows={TASK: lost})
    assert judge_again(facts, {TASK: told}, again.ledger) == []
    assert judge_again(facts, {TASK: {**told, "reason": "Another."}}, again.ledger)
    more = {**again.rows, TASK + 1: again.rows[TASK]}
    assert judge_again(again, more, again.ledger) == ["task 8 came to be after its trial was over"]
