"""Ends the overlap of rotations: an old token leaves the broker, and its connections end."""

from __future__ import annotations

import logging

from django.utils import timezone

from forge.controller.loop import Loop
from runners import accounts
from runners.models import Runner, RunnerToken

logger = logging.getLogger(__name__)


class TokenLoop(Loop):
    name = "tokens"
    period = 0.5

    def turn(self) -> None:
        now = timezone.now()
        ended = RunnerToken.objects.to_cut(now=now).values("runner")
        for runner in Runner.objects.present().filter(pk__in=ended):
            accounts.cut_ended_tokens(runner, now=now)
            logger.info("older tokens of runner %s ended; its connections were cut", runner.name)
