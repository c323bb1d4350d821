"""Whether the broker can be reached and used from here: without that a runner hears of no task.

Forge knows it from nobody else. Its own controller may reach the broker well, and so may the other
runners, while a proxy between this host and Forge lets everything through but the tunnel.
"""

from __future__ import annotations

import re
import time

import redis

from runners.worker.errors import BrokerError
from runners.worker.fields import printable
from runners.worker.protocol import MAXIMUM_TROUBLE

# A broker that is started again, or a web process with its tunnels, is back before that.
PATIENCE_SECONDS = 10.0
# What redis-py puts before the answer to one command of several.
_PLACE = re.compile(r"\ACommand # \d+ \(.*?\) of pipeline caused error: ", re.DOTALL)
MAXIMUM_ANSWER = 300


def answer_in(error: BaseException) -> str:
    """What the broker itself said, without a full stop; empty if this is no answer of its."""
    if not isinstance(error, redis.ResponseError):
        return ""
    said = printable(_PLACE.sub("", str(error)), MAXIMUM_ANSWER).rstrip(" .")
    return said or type(error).__name__


class BrokerWatch:
    """Written by the thread that connects to the broker, read by the one that sends heartbeats."""

    def __init__(self) -> None:
        self._away: tuple[float, str] | None = None

    def note_failure(self, error: BrokerError) -> None:
        """A worker that starts could not sign in."""
        answer = answer_in(error.__cause__) if error.__cause__ is not None else ""
        if answer:
            self.note_refusal(answer)
        else:
            self.note_absence(error.message)

    def note_absence(self, why: str) -> None:
        """It could not be reached just now; `why` is a sentence, or the words of an error."""
        self._note(f"Its host cannot reach the broker: {why}")

    def note_refusal(self, answer: str) -> None:
        """It could be reached, and answered this to what the worker cannot do without."""
        self._note(f"The broker refuses to serve it: {answer}")

    def _note(self, sentence: str) -> None:
        since = self._away[0] if self._away else time.monotonic()
        self._away = (since, sentence)

    def note_presence(self) -> bool:
        """It serves this worker; says whether it was away for so long that Forge was told."""
        was_told = bool(self.trouble)
        self._away = None
        return was_told

    @property
    def trouble(self) -> str:
        """As in a heartbeat, without a full stop; empty while all is well or may soon be again."""
        away = self._away
        if away is None or time.monotonic() - away[0] < PATIENCE_SECONDS:
            return ""
        said = printable(away[1], MAXIMUM_TROUBLE)
        return said[:MAXIMUM_TROUBLE].rstrip(" .")
