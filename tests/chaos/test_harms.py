"""When a harm that outlasts leases has been felt, whatever slots there are."""

from __future__ import annotations

from typing import Any

from tests.chaos.harms import are_decided

SILENT, OTHER = 3, 2
GATED, UNGATED = 6, 7
# The other host's worker has taken the one whose gate is shut into its last slot.
AGAIN = [(GATED, 1, 21), (UNGATED, 1, 22), (GATED, 2, 23)]


def row(task: int, state: str, attempt: int, runner: int | None, policy: str) -> dict[str, Any]:
    over = "2026-01-01T00:00:00Z" if state in ("succeeded", "lost") else None
    return {
        "id": task,
        "state": state,
        "attempt": attempt,
        "runner": runner,
        "lost_runner_policy": policy,
        "finished_at": over,
    }


WAITS = row(4, "unreachable", 1, SILENT, "wait")
GIVEN_UP = row(5, "lost", 1, SILENT, "fail")
RUNS_AGAIN = row(GATED, "running", 2, OTHER, "retry")
WILL_RUN_AGAIN = row(UNGATED, "queued", 2, None, "retry")


def is_over(*rows: dict[str, Any], starts: list[tuple[int, int, int]] = AGAIN) -> bool:
    return are_decided(SILENT, {GATED, UNGATED}, rows, starts)


def test_what_has_no_slot_for_its_next_attempt_is_not_waited_for() -> None:
    assert is_over(WAITS, GIVEN_UP, RUNS_AGAIN, WILL_RUN_AGAIN)


def test_a_next_attempt_runs_while_the_runner_is_silent() -> None:
    queued = row(GATED, "queued", 2, None, "retry")
    assert not is_over(WAITS, GIVEN_UP, queued, WILL_RUN_AGAIN, starts=AGAIN[:2])
    # Unless the results of all of them were on their way.
    ended = [row(task, "succeeded", 1, SILENT, "retry") for task in (GATED, UNGATED)]
    assert is_over(WAITS, GIVEN_UP, *ended, starts=AGAIN[:2])


def test_every_policy_decides_before_the_runner_is_heard_again() -> None:
    for late in (
        row(4, "running", 1, SILENT, "wait"),
        row(5, "unreachable", 1, SILENT, "fail"),
        row(UNGATED, "unreachable", 1, SILENT, "retry"),
    ):
        rows = {one["id"]: one for one in (WAITS, GIVEN_UP, RUNS_AGAIN, WILL_RUN_AGAIN, late)}
        assert not is_over(*rows.values())
