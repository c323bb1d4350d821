"""One periodic duty in a thread of its own."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod

import redis
from django.db import Error as DatabaseError
from django.db import connections

logger = logging.getLogger(__name__)


# What a broker or a database raises that is away.
AWAY = (redis.RedisError, OSError, DatabaseError)


class Trouble:
    """What is said of a duty that fails again and again: each kind of error once until it works.

    One that nobody thought of is said with its traceback.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._said: set[object] = set()

    def note_absence(self, error: Exception, *, period: float) -> None:
        """Broker or database are away, and asked again every `period` seconds.

        A broker that answers that it refuses is not away, and its answer is worth a line.
        """
        if self._is_new(redis.ResponseError if isinstance(error, redis.ResponseError) else AWAY):
            told = " ".join(str(error).split())
            logger.warning("%s: %s; trying again every %g s", self._name, told, period)

    def note_error(self, error: Exception) -> None:
        if self._is_new(type(error)):
            logger.error("%s: unexpected error", self._name, exc_info=error)

    def note_recovery(self) -> None:
        if self._said:
            self._said.clear()
            logger.info("%s: works again", self._name)

    def _is_new(self, kind: object) -> bool:
        is_new = kind not in self._said
        self._said.add(kind)
        return is_new


class Loop(threading.Thread, ABC):
    """Calls `turn` every `period` seconds while this controller leads.

    A broker or database that is away, or any other error, is logged once and does not end the
    loop: the next turn tries again.
    """

    name: str
    period: float

    def __init__(self, is_leading: threading.Event, is_closing: threading.Event) -> None:
        super().__init__(name=f"forge-{self.name}", daemon=True)
        self._is_leading = is_leading
        self._is_closing = is_closing
        self._trouble = Trouble(self.name)

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
        except AWAY as error:
            self._trouble.note_absence(error, period=self.period)
        except Exception as error:
            self._trouble.note_error(error)
        else:
            self._trouble.note_recovery()
        finally:
            # Give the connection back, and never keep one that a restarted database closed.
            connections.close_all()
