"""What a trial has done to whom: all that its tasks may be excused with."""

from __future__ import annotations

from dataclasses import dataclass, field

# (task, attempt).
Key = tuple[int, int]


@dataclass(frozen=True)
class Silence:
    """Nothing passed between a runner and Forge, by `time.monotonic()`."""

    runner: int
    since: float
    until: float

    @property
    def seconds(self) -> float:
        return self.until - self.since


@dataclass
class Damage:
    """What may follow from a harm.

    killed: attempts whose program was. cut: attempts whose supervisor was, after which there may be
    another one. workers: runners whose worker was killed, each with the pid that it had. unwatched:
    those of them with which all were killed that end a program, so that it may live on. silences:
    of runners that were stopped, cut off, or without a Forge to speak to. asked: tasks of which a
    stop was asked, each with the state that the answer said; empty where it had ended before. done:
    those of them whose program had come to its own end when that was asked; of the others none can
    come to it, unless it is let.
    """

    killed: set[Key] = field(default_factory=set)
    cut: set[Key] = field(default_factory=set)
    workers: dict[int, int] = field(default_factory=dict)
    unwatched: set[int] = field(default_factory=set)
    silences: list[Silence] = field(default_factory=list)
    asked: dict[int, str] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)
