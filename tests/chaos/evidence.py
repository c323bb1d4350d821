"""What is known of one trial when all is over, and what can be told from it of an attempt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tests.chaos.conductor import Passage
from tests.chaos.damage import Damage, Key, Silence
from tests.chaos.ledger import Ledger

# How a worker says of an attempt that something of it may live on; it must not be run again then.
DOUBTS = ("nobody can say", "not all of its processes would end")
# A Forge that renews no lease for so long may give up what has one.
LEASE_SECONDS = 9


@dataclass(frozen=True)
class Facts:
    """meant: how many tasks were asked for. accepted: ids that Forge answered to; rows: the API's
    last word on each task; logs: by task and attempt; passages: the processes' own record.
    """

    meant: int
    accepted: set[int]
    rows: dict[int, dict[str, Any]]
    logs: dict[Key, bytes]
    ledger: Ledger
    damage: Damage
    passages: tuple[Passage, ...]

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

    def silences_of(self, key: Key, runner: int | None) -> Iterator[Silence]:
        """Those of its runner that were not over when it began."""
        began = min((one.at for one in self._by_attempt.get(key, ())), default=None)
        for silence in self.damage.silences:
            if silence.runner == runner and began is not None and began < silence.until:
                yield silence

    def was_silent(self, key: Key, runner: int | None, *, seconds: float = 0.0) -> bool:
        """Whether its runner was, for longer than that."""
        return any(one.seconds > seconds for one in self.silences_of(key, runner))
