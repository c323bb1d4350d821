"""The heartbeat: says what this runner holds, and brings back orders."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

from runners.worker.client import ANSWER_TIMEOUT, Client, spread_pause
from runners.worker.errors import RefusedError, RevokedError, UnreachableError, WorkerError
from runners.worker.journal import Journal
from runners.worker.protocol import Heartbeat, HeartbeatReply, TaskRef
from runners.worker.supervision import boot_seconds

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 3.0
# How long a worker may take to listen to its queues before Forge hears of it all the same.
HOLD_SECONDS = 5.0
# How long an answer is waited for before another heartbeat is sent over a new connection: as long
# as two take, within these bounds. By the end of ANSWER_TIMEOUT Forge may call the runner lost.
SHORTEST_PATIENCE = 3.0
LONGEST_PATIENCE = 10.0
# The code of the only refusal that ends a worker.
DISPLACED = "displaced"


class Heart(threading.Thread):
    """One thread a worker; beats at the interval that Forge asks for, or when poked.

    The first beat comes after `hold` seconds, or when poked: Forge takes it for a word that this
    worker is ready for tasks.
    `obey` gets the answer and when its heartbeat was sent, in boot seconds.
    """

    def __init__(
        self,
        client: Client,
        journal: Journal,
        session: str,
        *,
        interval: float,
        hold: float = 0.0,
        obey: Callable[[HeartbeatReply, float], None],
        revoked: Callable[[RevokedError], None],
        displaced: Callable[[str], None],
        back: Callable[[], None] = lambda: None,
        trouble: Callable[[], str] = lambda: "",
    ) -> None:
        super().__init__(name="forge-heart", daemon=True)
        self._client = client
        self._journal = journal
        self._session = session
        self._interval = interval
        self._hold = hold
        self._obey = obey
        self._revoked = revoked
        self._displaced = displaced
        self._back = back
        self._trouble = trouble
        self._poke = threading.Event()
        self._is_closing = False
        self._is_away = False
        # A dead connection is more likely than a Forge that is slow.
        self._is_hasty = True
        self._sent = 0.0
        self._heard_at: float | None = None
        self.is_draining = False

    def seconds_heard(self) -> float:
        """For how long Forge has answered every heartbeat; 0 while it does not."""
        heard_at = self._heard_at
        return 0.0 if heard_at is None else time.monotonic() - heard_at

    def poke(self) -> None:
        """Beat now: Forge has something to tell, or to be told, that does not wait."""
        self._poke.set()

    def close(self) -> None:
        """End the thread, and say goodbye if Forge listens: another worker may follow at once."""
        self._is_closing = True
        self._poke.set()
        if self.is_alive():
            self.join(CLOSE_SECONDS)
            # Not in this thread: where packets are dropped without a word, it takes half a minute.
            goodbye = threading.Thread(target=self._say_goodbye, name="forge-goodbye", daemon=True)
            try:
                goodbye.start()
            except RuntimeError as error:  # the host has no thread left, and this one does not wait
                logger.warning("Forge is not told of the shutdown: %s.", error)
            else:
                goodbye.join(CLOSE_SECONDS)

    def _say_goodbye(self) -> None:
        try:
            self._client.heartbeat(Heartbeat(self._session, self._held(), is_leaving=True))
        except WorkerError as error:
            logger.info("Forge was not told of the shutdown: %s", error.message)

    def _held(self) -> tuple[TaskRef, ...]:
        return tuple(TaskRef(entry.task, entry.attempt) for entry in self._journal)

    def run(self) -> None:
        if self._hold:
            self._poke.wait(self._hold)
            self._poke.clear()
        while not self._is_closing:
            asked = 0.0
            is_at_once = False
            try:
                self._beat()
            except RevokedError as error:
                self._revoked(error)
                return
            except RefusedError as error:
                if error.code == DISPLACED:
                    self._displaced(error.message)
                    return
                self._note_absence(f"Forge does not take the heartbeat: {error.message}")
            except UnreachableError as error:
                asked = min(error.retry_after, self._longest_silence())
                is_at_once = self._gives_up_haste()
                if not is_at_once:
                    self._note_absence(error.message)
            except Exception:
                # Whatever it is: a runner without a heartbeat would lose all its tasks.
                logger.exception("The heartbeat's answer could not be obeyed.")
            # Spread, so that a thousand runners do not come back in the same instant.
            pause = 1.0 if is_at_once else self._interval * random.uniform(0.8, 1.0)  # noqa: S311
            self._poke.wait(max(pause, spread_pause(0.0, asked)))
            self._poke.clear()

    def _gives_up_haste(self) -> bool:
        """Whether to send another heartbeat at once, and to wait longer for its answer.

        The connection may have died without a word, and a new one may be as good as ever; or it is
        Forge that is slow.
        """
        was_waiting = boot_seconds() - self._sent >= self._patience()
        is_first, self._is_hasty = self._is_hasty and was_waiting, False
        return is_first

    def _patience(self) -> float:
        """How many seconds to wait for an answer."""
        return self._longest_silence() if self._is_hasty else ANSWER_TIMEOUT

    def _longest_silence(self) -> float:
        """How many seconds are no reason for Forge to give this runner up.

        A proxy may ask to be left alone for longer, and knows nothing of leases.
        """
        return min(max(2 * self._interval, SHORTEST_PATIENCE), LONGEST_PATIENCE)

    def _beat(self) -> None:
        message = Heartbeat(
            self._session, self._held(), is_draining=self.is_draining, trouble=self._trouble()
        )
        sent = self._sent = boot_seconds()
        reply = self._client.heartbeat(message, patience=self._patience())
        # As long as Forge is slow, it is not asked twice for each answer.
        self._is_hasty = boot_seconds() - sent < SHORTEST_PATIENCE
        self._interval = max(reply.heartbeat_seconds, 0.2)
        self._heard_at = self._heard_at or time.monotonic()
        if self._is_away:
            self._is_away = False
            logger.warning("Forge answers again.")
            self._back()
        self._obey(reply, sent)

    def _note_absence(self, why: str) -> None:
        self._heard_at = None
        if not self._is_away:
            self._is_away = True
            runs = any(entry.result is None for entry in self._journal)
            rest = " Running tasks go on; their logs wait here." if runs else ""
            logger.warning("%s%s", why, rest)
