"""A worker that starts during an outage: when it gives up, and when it waits for its Forge.

Whoever sets up a runner is to be told at once that an address is wrong. A host that comes up
before Forge, after a power cut, is to wait, and nobody is there to read. What tells them apart is
whether a worker was connected before with this address and this token:

    <runner's folder>/known-<digest of both>

Nothing is wrong with them either where Forge accepts the token and only its broker lacks the
account.
"""

from __future__ import annotations

import hashlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from runners.worker.client import spread_pause
from runners.worker.errors import AccountMissingError, BrokerError, UnreachableError, say
from runners.worker.whole_file import write_whole

logger = logging.getLogger(__name__)

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 15.0
# Of one runner: the token in use, and those that it was rotated from.
KEPT = 5

_Answer = TypeVar("_Answer")


class Known:
    """With which tokens workers were connected to the Forge at `url`. Thread-safe.

    data: where the folders of all runners of this host are.
    """

    def __init__(self, data: Path, url: str) -> None:
        self._data = data
        self._url = url

    def has(self, token: str) -> bool:
        return any(self._data.glob(f"*/{self._name(token)}"))

    def note(self, folder: Path, token: str) -> None:
        """The runner whose folder this is was connected with this token."""
        try:
            write_whole(folder / self._name(token), "")
            notes = folder.glob("known-*")
            for old in sorted(notes, key=lambda note: note.stat().st_mtime, reverse=True)[KEPT:]:
                old.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("A later start will not wait for Forge: %s", error)

    def _name(self, token: str) -> str:
        # The broker takes a token's own digest for it: this is another.
        return "known-" + hashlib.sha256(f"{self._url}\n{token}".encode()).hexdigest()


def await_forge(attempt: Callable[[], _Answer], *, is_known: bool) -> _Answer:
    """The first answer of `attempt`; a Forge that is known is waited for as long as it takes.

    Raises what `attempt` raises, when waiting would not help, and SystemExit with status 0 on a
    signal to end. `attempt` runs in threads of its own: a look-up of a name cannot be interrupted.
    """
    pause = FIRST_PAUSE
    said = set[str]()
    while True:
        try:
            answer = _in_thread(attempt)
            break
        except (UnreachableError, BrokerError) as error:
            if not is_worth_a_wait(error, is_known=is_known):
                raise
            if error.message not in said:
                said.add(error.message)
                why = "It worked here before" if is_known else "Forge accepts the token"
                say(f"{error.message} {why}, so this worker waits for it.")
            time.sleep(spread_pause(pause, error.retry_after))
            pause = min(pause * 2, LONGEST_PAUSE)
    if said:
        say("Forge and its broker answer; this worker starts.")
    return answer


def is_worth_a_wait(error: UnreachableError | BrokerError, *, is_known: bool) -> bool:
    """Whether what keeps a worker from starting passes by itself, and nobody has to be told."""
    return error.may_pass and (is_known or isinstance(error, AccountMissingError))


def _in_thread(attempt: Callable[[], _Answer]) -> _Answer:
    future: Future[_Answer] = Future()

    def run() -> None:
        try:
            future.set_result(attempt())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="forge-start", daemon=True).start()
    return future.result()


@contextmanager
def ending_at_signals() -> Iterator[None]:
    """TERM, INT, QUIT and HUP raise SystemExit with status 0 in the block; in the main thread.

    After one they are ignored: the process is about to end. So it is if the block raises. HUP stays
    ignored where it was, as under nohup.
    """
    numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)

    def end(number: int, frame: Any) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(0)

    before = {number: signal.signal(number, end) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
