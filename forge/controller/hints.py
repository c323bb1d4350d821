"""Publishes hints for tasks that may start, and repairs queues that lost some."""

from __future__ import annotations

from django.conf import settings
from django.utils import timezone

from forge.controller.loop import Loop
from tasks.publish import reconcile


class HintLoop(Loop):
    name = "hints"
    period = settings.FORGE_RECONCILE_SECONDS

    def turn(self) -> None:
        reconcile(now=timezone.now())
