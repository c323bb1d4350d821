"""What is known of one trial when all is over, and what can be told from it of an attempt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tests.chaos.conductor import Passage
from tests.chaos.damage import Damage, Key
from tests.chaos.ledger import Ledger

# How a worker says of an attempt that something of it may live on; it must not be run again then.
DOUBTS = ("nobody can say", "nobody could say", "not all of its processes would end")
# A Forge that renews no lease for so long may give up what has one. A runner's own supervisor ends
# it earlier, to have ended it by then.
LEASE_SECONDS = 9
FENCE_SECONDS = LEASE_SECONDS * 2 / 3
# A runner that is silent for so long counts as offline.
OFFLINE_SECONDS = 4
# Both count from what they heard last before a silence: a second ago, or more on a busy machine.
HEARD_SECONDS = 2.0
NEVER = float("inf")

# What the API says of a task, and of one of its attempts.
Row = dict[str, Any]
Attempt = dict[str, Any]


@dataclass(frozen=True)
class Facts:
    """meant: how many tasks were asked for. accepted: ids that Forge answered to; rows: the API's
    last word on each task; logs: by task and attempt; passages: the processes' own record;
    arrived: how many bytes of the logs Forge had before the blow; names: of the runners.
    """

    meant: int
    accepted: set[int]
    rows: dict[int, dict[str, Any]]
    logs: dict[Key, bytes]
    ledger: Ledger
    damage: Damage
    passages: tuple[Passage, ...]
    arrived: dict[Key, int] = field(default_factory=dict)
    names: dict[int | None, str] = field(default_factory=dict)

    @cached_property
    def _by_attempt(self) -> dict[Key, list[Passage]]:
        found: dict[Key, list[Passage]] = {}
        for one in self.passages:
            found.setdefault((one.task, one.attempt), []).append(one)
        return found

    def has_passed(self, key: Key, place: str, pid: int | None = None) -> bool:
        """Whether a process, that with `pid` or any, says that it came there with this attempt."""
        passed = self._by_attempt.get(key, ())
        return any(one.place == place and pid in (None, one.pid) for one in passed)

    def is_kept(self, key: Key) -> bool:
        """Its program came to its own end, and its result is in its runner's journal, whose disk
        nobody harms.
        """
        is_struck = key in self.damage.cut | self.damage.killed
        has_ended = key in self.ledger.ends and not is_struck
        return has_ended and self.has_passed(key, "result journaled")

    def died_with_worker(self, key: Key, runner: int | None) -> bool:
        """Its worker was killed while it had the attempt, and before the result was journaled."""
        pid = self.damage.workers.get(runner or 0)
        if pid is None or not self.has_passed(key, "hint popped", pid):
            return False
        return not self.has_passed(key, "result journaled", pid)

    def was_cut_short(self, key: Key, runner: int | None) -> bool:
        """Its program had started and died with its worker."""
        has_started = any(start[:2] == key for start in self.ledger.starts)
        return has_started and self.died_with_worker(key, runner)

    def silences_of(self, key: Key, runner: int | None) -> Iterator[float]:
        """For how many seconds its runner was silent while there was this attempt."""
        began = min((one.at for one in self._by_attempt.get(key, ())), default=None)
        for silence in self.damage.silences:
            if silence.runner == runner and began is not None and began < silence.until:
                yield silence.until - max(began, silence.since)

    def was_silent(self, key: Key, runner: int | None, *, seconds: float) -> bool:
        """Whether its runner was, for longer than that."""
        return any(one > seconds for one in self.silences_of(key, runner))


@dataclass(frozen=True)
class Case:
    """One attempt of a task, for what is asked of it again and again."""

    facts: Facts
    row: Row
    number: int
    runner: int | None

    @property
    def key(self) -> Key:
        return self.row["id"], self.number

    @property
    def has_started(self) -> bool:
        return any(start[:2] == self.key for start in self.facts.ledger.starts)

    @property
    def has_ended(self) -> bool:
        """Its program came to its own end."""
        return self.key in self.facts.ledger.ends

    @property
    def died_with_worker(self) -> bool:
        return self.facts.died_with_worker(self.key, self.runner)

    @property
    def is_unwatched(self) -> bool:
        return self.runner in self.facts.damage.unwatched

    def has_passed(self, place: str) -> bool:
        return self.facts.has_passed(self.key, place)

    def was_given_up(self, state: str) -> bool:
        """Whether its runner was silent for long enough to end it in `state`, by its policy: by who
        counts as offline, by Forge, or by its own supervisor before its lease ends.
        """
        policy = self.row["lost_runner_policy"]
        enough = {
            ("fail", "lost"): OFFLINE_SECONDS - HEARD_SECONDS,
            ("retry", "lost"): float(LEASE_SECONDS),
            ("retry", "failed"): FENCE_SECONDS - HEARD_SECONDS,
        }
        seconds = enough.get((policy, state), NEVER)
        return self.facts.was_silent(self.key, self.runner, seconds=seconds)


def may_live_on(told: Row | Attempt) -> bool:
    """Whether its reason leaves open that something of the attempt still runs."""
    return any(doubt in told["reason"] for doubt in DOUBTS)
