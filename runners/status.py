"""The words for how a runner is. Derived from its row, never stored."""

from __future__ import annotations

from django.db.models import TextChoices


class RunnerStatus(TextChoices):
    NEVER_CONTACTED = "never_contacted", "Never contacted"
    IDLE = "idle", "Idle"
    BUSY = "busy", "Busy"
    UNHEALTHY = "unhealthy", "Unhealthy"
    OFFLINE = "offline", "Offline"
    REVOKED = "revoked", "Revoked"
