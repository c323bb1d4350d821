"""The broker is tried once, at the start or as soon as it answers."""

from __future__ import annotations

import logging
import sys

import redis

from runners.broker import administrator
from runners.errors import BrokerUnsuitableError
from runners.nodes import Node
from runners.suitability import broker_place, check

logger = logging.getLogger(__name__)


class BrokerCheck:
    """`is_done` once the broker has answered and was found suitable."""

    def __init__(self) -> None:
        self.is_done = False
        self._is_awaited = False

    def try_once(self) -> bool:
        """Returns False, after saying why, if Forge can never work with this broker."""
        place = broker_place()
        try:
            advice = check(Node(place, administrator()))
        except BrokerUnsuitableError as error:
            print(f"forge: {place}: {error}", file=sys.stderr, flush=True)
            return False
        except (redis.RedisError, OSError) as error:
            self._note_absence(place, error)
            return True
        self.is_done = True
        for sentence in advice:
            logger.warning("%s: %s", place, sentence)
        return True

    def _note_absence(self, place: str, error: Exception) -> None:
        if not self._is_awaited:
            self._is_awaited = True
            logger.warning("The broker at %s does not answer yet (%s); waiting.", place, error)
