"""What keeps Forge and a worker in touch, whether the broker answers or not: heartbeat, uploads."""

from __future__ import annotations

import threading
from collections.abc import Callable

from runners.worker.client import Client
from runners.worker.entry import Entry
from runners.worker.errors import RevokedError
from runners.worker.heart import HOLD_SECONDS, Heart
from runners.worker.journal import Journal
from runners.worker.protocol import HeartbeatReply
from runners.worker.uploader import Uploader

DELIVERY_SECONDS = 10.0
# Of a worker that has run nothing: what it holds has waited, and its next start hands it over.
SHORT_DELIVERY_SECONDS = 3.0


class Contact:
    """The two threads; `keep` begins them, and `close` ends them for good. Thread-safe.

    refused, revoked, obey, displaced, back: as of Uploader and Heart. trouble: what keeps the
    worker from taking tasks, beside what keeps its reports here.
    """

    def __init__(
        self,
        client: Client,
        journal: Journal,
        session: str,
        *,
        refused: Callable[[Entry], None],
        revoked: Callable[[RevokedError], None],
        displaced: Callable[[str], None] = lambda message: None,
        obey: Callable[[HeartbeatReply, float], None] = lambda reply, sent: None,
        back: Callable[[], None] = lambda: None,
        trouble: Callable[[], str] = lambda: "",
    ) -> None:
        self._client, self._journal, self._session = client, journal, session
        self._refused, self._revoked, self._displaced = refused, revoked, displaced
        self._obey, self._back, self._trouble = obey, back, trouble
        self._lock = threading.Lock()
        self._is_closed = False
        self._is_draining = False
        self.uploader = self._make_uploader()
        self._heart: Heart | None = None

    def keep(self, interval: float, *, is_listening: bool = True) -> None:
        """Begin; anew, where it had ended and Forge takes this worker after all.

        interval: of the heartbeat, in seconds, until Forge asks for another one. If the worker is
        not yet listening to its queues, the first one waits for a poke, though not for long.
        """
        with self._lock:
            if self._is_closed:
                return
            if not self.uploader.is_alive():
                self.uploader = self._make_uploader()
                self.uploader.start()
            if self._heart is None or not self._heart.is_alive():
                self._heart = self._make_heart(interval, 0.0 if is_listening else HOLD_SECONDS)
                self._heart.start()

    def _make_uploader(self) -> Uploader:
        made = Uploader(self._client, self._journal, refused=self._refused, revoked=self._revoked)
        made.seconds_heard = lambda: self._heart.seconds_heard() if self._heart else 0.0
        return made

    def _make_heart(self, interval: float, hold: float) -> Heart:
        made = Heart(
            self._client,
            self._journal,
            self._session,
            interval=interval,
            hold=hold,
            obey=self._obey,
            revoked=self._revoked,
            displaced=self._displaced,
            back=self._back,
            trouble=lambda: self._trouble() or self.uploader.trouble,
        )
        made.is_draining = self._is_draining
        return made

    def poke(self) -> None:
        """Beat now."""
        if self._heart is not None:
            self._heart.poke()

    def drain(self) -> None:
        """Tell Forge that nothing new is taken."""
        self._is_draining = True
        if self._heart is not None:
            self._heart.is_draining = True
            self._heart.poke()

    def close(self, *, is_short: bool = False) -> None:
        """Hand over what Forge takes now, for some seconds at most, and say goodbye."""
        with self._lock:
            self._is_closed = True
        self.uploader.close(SHORT_DELIVERY_SECONDS if is_short else DELIVERY_SECONDS)
        if self._heart is not None:
            self._heart.close()
