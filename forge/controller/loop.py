"""One periodic duty in a thread of its own."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod

import redis
from django.db import Error as DatabaseError
from django.db import connections

logger = logging.getLogger(__name__)


class Loop(threading.Thread, ABC):
    """Calls `turn` every `period` seconds while this controller leads.

    A broker or database that is away is logged once and tried again at the next turn; any
    other error is logged with its traceback and does not end the loop either.
    """

    name: str
    period: float

    def __init__(self, is_leading: threading.Event, is_closing: threading.Event) -> None:
        super().__init__(name=f"forge-{self.name}", daemon=True)
        self._is_leading = is_leading
        self._is_closing = is_closing
        self._is_troubled = False

    @abstractmethod
    def turn(self) -> None:
        """Do the duty once. May raise."""

    def run(self) -> None:
        while not self._is_closing.wait(self.period):
            if self._is_leading.is_set():
                self._try()

    def _try(self) -> None:
        try:
            self.turn()
        except (redis.RedisError, OSError, DatabaseError) as error:
            self._note_trouble(error)
        except Exception:
            logger.exception("%s: unexpected error", self.name)
        else:
            self._note_recovery()
        finally:
            # Give the connection back, and never keep one that a restarted database closed.
            connections.close_all()

    def _note_trouble(self, error: Exception) -> None:
        if not self._is_troubled:
            self._is_troubled = True
            logger.warning("%s: %s; trying again every %g s", self.name, error, self.period)

    def _note_recovery(self) -> None:
        if self._is_troubled:
            self._is_troubled = False
            logger.info("%s: works again", self.name)
