"""The words for how a runner or a registration token is. Derived from rows, never stored."""

from __future__ import annotations

from django.db.models import TextChoices


class RunnerStatus(TextChoices):
    NEVER_CONTACTED = "never_contacted", "Never contacted"
    IDLE = "idle", "Idle"
    BUSY = "busy", "Busy"
    DRAINING = "draining", "Draining"
    PAUSED = "paused", "Paused"
    UNHEALTHY = "unhealthy", "Unhealthy"
    OFFLINE = "offline", "Offline"
    REVOKED = "revoked", "Revoked"


class RegistrationStatus(TextChoices):
    ACTIVE = "active", "Active"
    USED_UP = "used_up", "Used up"
    EXPIRED = "expired", "Expired"
    REVOKED = "revoked", "Revoked"
