"""What a runner says of an attempt that was given up as lost before: kept for people to read.

The state stays, and nothing else comes of it: another run may have begun since. But whoever has to
decide whether to run the task once more is told how its program ended after all.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from runners.worker.protocol import Result
from tasks.models import Task
from tasks.transitions import REASON_LENGTH

_SAID = " Its runner came back and said at "
_STAYS = " The task stays lost, because it was given up before."
# Of a reason so much is kept: what its runner says comes behind it.
_KEPT = 240
# What lay so far back is worth a time of its own.
_LONG_BEFORE = timedelta(minutes=1)


def note_late_results(task: Task, results: Iterable[Result], *, now: datetime) -> bool:
    """Add to the reason of a lost task what its runner says of its end; the first such word counts.

    The results are of the runner that it was lost with. True if that is something new.
    """
    for item in results:
        is_meant = item.task == task.pk and item.attempt == task.attempt
        if is_meant and _SAID not in task.reason:
            return task.note_late_word(reason=_told(task.reason, item, now=now))
    return False


def _told(before: str, item: Result, *, now: datetime) -> str:
    """The whole reason. Of the end only the latest moment is known, after a restart of the host."""
    age = timedelta(seconds=item.age_seconds)
    end = f" That was no later than {_clock(now - age)}." if age >= _LONG_BEFORE else ""
    begin, end = f"{_clipped(before, _KEPT)}{_SAID}{_clock(now)}: ", f"{end}{_STAYS}"
    return f"{begin}{_clipped(_how(item), REASON_LENGTH - len(begin) - len(end))}{end}"


def _how(item: Result) -> str:
    """What was ended because Forge had given it up was stopped by nobody."""
    if item.outcome != "stopped":
        return item.reason
    code = "" if item.exit_code is None else f", with exit status {item.exit_code}"
    return f"What was left of it was ended{code}."


def _clipped(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _clock(moment: datetime) -> str:
    """With its date: it is read on other days too."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
