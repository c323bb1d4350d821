"""Publishes hints for tasks that may start, and repairs queues that lost some."""

from __future__ import annotations

import redis
from django.conf import settings
from django.utils import timezone

from forge.controller.loop import Loop
from runners.broker import require_writes
from runners.models import BrokerContact
from tasks.publish import reconcile


class HintLoop(Loop):
    name = "hints"
    period = settings.FORGE_RECONCILE_SECONDS

    def turn(self) -> None:
        """Also notes whether the broker takes hints, for those who wonder why a task waits."""
        now = timezone.now()
        try:
            # Asked first: what would be marked as put out would only be looked for afterwards.
            require_writes()
            reconcile(now=now)
        except redis.ResponseError as error:
            BrokerContact.note_refusal(error, now=now)
            raise redis.ResponseError(f"the broker refuses hints: {error}") from error
        except (redis.RedisError, OSError) as error:
            BrokerContact.note_loss(error, now=now)
            raise
        BrokerContact.note_answer()
