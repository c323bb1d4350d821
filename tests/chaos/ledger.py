"""What the tasks' own programs have written down, so that nothing of it can hide."""

from __future__ import annotations

import fcntl
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

# How often a program writes; half of it before its gate. One task of four writes BURST lines each
# time, in all some 400 KB, and with pauses, so that its log travels in many parts.
LINES = 40
LAST_BEFORE_GATE = LINES // 2
BURST = 500
LONG_OF = 4

# Until a gate is there.
WAIT = "while [ ! -e {gate} ]; do sleep 0.05; done"
# As WAIT, but who waits is a child that nothing shows to be of a task, but who its parent is.
WAIT_APART = '(cd / && exec env -i PATH="$PATH" bash -c \'' + WAIT.format(gate='"$0"') + "' {gate})"

# Says that it started, writes half of its log, waits for its gate if it has one, writes the rest.
# No two lines are the same, so that none can stand in for another.
# The lock is held as long as any process of it lives: also by the child that it leaves behind, in
# a session of its own.
SCRIPT = f"""me="$FORGE_TASK_ID $FORGE_ATTEMPT"
exec 9>> {{ledger}}.$FORGE_TASK_ID
flock --nonblock 9 || echo "$me overlap" >> {{ledger}}
echo "$me start $$" >> {{ledger}}
setsid sleep 600 &
write() (
  for n in $(seq $1 $2); do
    if [ $((FORGE_TASK_ID % {LONG_OF})) != 0 ]; then echo "line $n of $me"; continue; fi
    seq -f "line %.0f of $me" $(((n - 1) * {BURST} + 1)) $((n * {BURST}))
    sleep 0.02
  done
)
write 1 {LAST_BEFORE_GATE}
echo "$me half" >> {{ledger}}
{{wait}}
write {LAST_BEFORE_GATE + 1} {LINES}
echo "$me end" >> {{ledger}}"""


def lock_of(ledger: Path, task: int) -> Path:
    """What all of a task's processes hold, whichever attempt they are of."""
    return ledger.with_name(f"{ledger.name}.{task}")


def is_free(lock: Path) -> bool:
    """Whether nobody holds it; a task that was never started has none."""
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True


def whole_log(task: int, attempt: int, times: int = LINES) -> bytes:
    """What the program of this attempt writes, or what it has the first `times` that it does."""
    lines = times * (1 if task % LONG_OF else BURST)
    return b"".join(
        b"line %d of %d %d\n" % (number, task, attempt) for number in range(1, lines + 1)
    )


@dataclass(frozen=True)
class Ledger:
    """starts: (task, attempt, pid) in order. The others are (task, attempt): halves, those that
    have written the first half of their log; ends: that came to their own end; overlaps: that found
    another attempt of their task alive, or wrote after a later one had started.
    """

    starts: tuple[tuple[int, int, int], ...]
    halves: frozenset[tuple[int, int]]
    ends: frozenset[tuple[int, int]]
    overlaps: frozenset[tuple[int, int]]

    @staticmethod
    def read(path: Path) -> Ledger:
        lines = [line.split() for line in path.read_text().splitlines()]
        starts = tuple(
            (int(one[0]), int(one[1]), int(one[3])) for one in lines if one[2:3] == ["start"]
        )
        halves, ends, overlaps = (_said(lines, word) for word in ("half", "end", "overlap"))
        return Ledger(starts, halves, ends, overlaps | _late(lines))

    def of(self, tasks: Collection[int]) -> Ledger:
        """What is there of these tasks."""
        return Ledger(
            tuple(start for start in self.starts if start[0] in tasks),
            *(
                frozenset(one for one in found if one[0] in tasks)
                for found in (self.halves, self.ends, self.overlaps)
            ),
        )

    def attempts_of(self, task: int) -> Counter[int]:
        """How often each attempt of a task was started."""
        return Counter(attempt for one, attempt, _ in self.starts if one == task)

    def written_at_least(self, task: int, attempt: int) -> bytes:
        """What its program had written for certain."""
        if (task, attempt) in self.ends:
            return whole_log(task, attempt)
        times = LAST_BEFORE_GATE if (task, attempt) in self.halves else 0
        return whole_log(task, attempt, times)


def _said(lines: list[list[str]], word: str) -> frozenset[tuple[int, int]]:
    return frozenset((int(one[0]), int(one[1])) for one in lines if one[2:] == [word])


def _late(lines: list[list[str]]) -> frozenset[tuple[int, int]]:
    """Attempts that wrote something after a later one of their task had started."""
    latest: dict[int, int] = {}
    late = set()
    for task, attempt in ((int(one[0]), int(one[1])) for one in lines):
        latest[task] = max(attempt, latest.get(task, 0))
        if attempt < latest[task]:
            late.add((task, attempt))
    return frozenset(late)
