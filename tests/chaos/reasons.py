"""Whether the reason that is told of an attempt's end is what has been seen of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.chaos.evidence import Case, Facts, Row

_STOPPED = re.compile(r"(Stopped|Force-stopped) by \w+\.")
# Before it is how the program ended; after it, who had asked.
_UNDER_WAY = " A stop was under way: "
# Behind it stands what the runner of a lost task said of it afterwards.
LATE_WORD = " Its runner came back and said at "
_LATE = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d UTC: (?P<end>.+?)( That was no later than .+)? "
    r"The task stays lost, because it was given up before\."
)
_ENDED_SINCE = re.compile(r"What was left of it was ended(, with exit status -?\d+)?\.")
_COUNT = r"(1 process|\d+ processes)"


@dataclass(frozen=True)
class _Reason:
    """A sentence that Forge has for an end in `state`, and of what it is true."""

    state: str
    words: re.Pattern[str]
    is_true: Callable[[Case], bool]

    def fits(self, case: Case, state: str, told: str) -> bool:
        found = self.words.fullmatch(told)
        if state != self.state or found is None or not self.is_true(case):
            return False
        named = found.groupdict().get("runner")
        return named in (None, case.facts.names.get(case.runner))


def _reason(state: str, words: str, is_true: Callable[[Case], bool]) -> _Reason:
    return _Reason(state, re.compile(words), is_true)


def _died_before_start(case: Case) -> bool:
    return case.died_with_worker and not case.has_started


def _died_without_claim(case: Case) -> bool:
    return case.died_with_worker and not case.has_passed("process started")


def _was_left(case: Case) -> bool:
    """By a worker that died, or by all of a runner that may be watched by nobody any more."""
    return case.died_with_worker and case.is_unwatched


_REASONS = (
    _reason(
        "succeeded",
        r"The program ended with exit status 0\."
        rf"( {_COUNT} that it left running (was|were) ended\.)?",
        lambda case: case.has_ended,
    ),
    _reason(
        "failed",
        r"The program was ended by signal 9 \(SIGKILL\)\.",
        lambda case: case.key in case.facts.damage.killed,
    ),
    _reason(
        "failed",
        r"The task's supervisor was lost: .+",
        lambda case: case.key in case.facts.damage.cut,
    ),
    _reason(
        "failed",
        r"The runner's worker ended before it started the program; nothing was run\.",
        _died_before_start,
    ),
    _reason(
        "failed",
        r"The runner's worker was killed while it ran; (its processes were ended with it"
        rf"|the next worker ended {_COUNT} of it that still ran"
        r"|the next worker found none of its processes left)\.",
        lambda case: case.died_with_worker,
    ),
    _reason(
        "failed",
        r"The runner's worker was killed while it ran; "
        rf"(the next worker ended {_COUNT} of it, but )?"
        r"(nobody can say whether something of it still runs"
        r"|not all of its processes would end)\.",
        _was_left,
    ),
    _reason(
        "failed",
        r"Forge did not renew the task's lease of 9 s in time, and the task may be run again "
        r"elsewhere after that: its processes were ended\.",
        lambda case: case.was_given_up("failed"),
    ),
    _reason(
        "lost",
        r"Runner (?P<runner>\S+) was out of reach, and ends its processes with their lease\.",
        lambda case: (
            case.row["lost_runner_policy"] == "retry"
            and (case.was_given_up("lost") or case.died_with_worker)
        ),
    ),
    _reason(
        "lost",
        r"Runner (?P<runner>\S+) went silent, and nobody could say how the task ended\. "
        r"Its template says to give up at once; it may have run on there\.",
        lambda case: case.row["lost_runner_policy"] == "fail" and case.was_given_up("lost"),
    ),
    _reason(
        "lost",
        r"The runner came back without it: nobody could say how it ended\.",
        _died_without_claim,
    ),
)


def untrue(facts: Facts, row: Row) -> Iterator[str]:
    """What is told of the task and of its attempts, and was not seen so."""
    told = {(one["number"], one["state"], one["reason"]): one["runner"] for one in row["attempts"]}
    told.setdefault((row["attempt"], row["state"], row["reason"]), row["runner"])
    for (number, state, reason), runner in told.items():
        if not _is_true(Case(facts, row, number, runner), state, reason):
            yield f"attempt {number} is said to have ended {state!r} because of this: {reason}"


def _is_true(case: Case, state: str, reason: str) -> bool:
    reason, is_told, late = reason.partition(LATE_WORD)
    if is_told and (state != "lost" or not _is_true_late(case, late)):
        return False
    if state != "stopped":
        return any(one.fits(case, state, reason) for one in _REASONS)
    end, is_late, wish = reason.rpartition(_UNDER_WAY)
    if not case.facts.damage.asked.get(case.row["id"]) or not _STOPPED.fullmatch(wish):
        return False
    # It ended otherwise, while a stop was asked for.
    ends = ("succeeded", "failed")
    return not is_late or any(one.fits(case, other, end) for one in _REASONS for other in ends)


def _is_true_late(case: Case, said: str) -> bool:
    """What its runner says of a lost task is how it ended, or that it was ended there since."""
    found = _LATE.fullmatch(said)
    if found is None:
        return False
    end, ends = found["end"], ("succeeded", "failed")
    return bool(_ENDED_SINCE.fullmatch(end)) or any(
        one.fits(case, state, end) for one in _REASONS for state in ends
    )
