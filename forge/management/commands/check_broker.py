"""`manage.py check_broker`: can the broker of REDIS_URL do what Forge needs?"""

from __future__ import annotations

import sys
from typing import Any

import redis
from django.core.management.base import BaseCommand

from runners.broker import administrator
from runners.errors import BrokerUnsuitableError
from runners.nodes import Node
from runners.suitability import broker_place, check


class Command(BaseCommand):
    help = (
        "Try what Forge needs of the broker, with a probe account that is deleted again. Exit "
        "status 0: suitable; 1: it does not answer; 2: Forge can never work with it."
    )
    # It does not touch the database.
    requires_system_checks: list[str] = []  # type: ignore[assignment]

    def handle(self, *args: Any, **options: Any) -> None:
        sys.exit(self._status())

    def _status(self) -> int:
        place = broker_place()
        try:
            advice = check(Node(place, administrator()))
        except BrokerUnsuitableError as error:
            self.stderr.write(f"{place}: {error}")
            return 2
        except (redis.RedisError, OSError) as error:
            self.stderr.write(f"The broker at {place} does not answer: {error}.")
            return 1
        for sentence in advice:
            self.stdout.write(f"{place}: {sentence}")
        self.stdout.write(f"{place}: suitable.")
        return 0
