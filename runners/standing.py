"""The derived status of runners where the database has to know it: to sort, count and filter."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Case, CharField, Q, QuerySet, Value, When

from runners.status import RunnerStatus


def status_in_database(now: datetime, *, holding: QuerySet[Any, Any]) -> Case:
    """What `Runner.status_at` says of each row; `holding` gives the numbers of those with tasks.

    The two are compared case by case in tests/runners/test_standing.py.
    """
    limit = now - timedelta(seconds=settings.FORGE_OFFLINE_SECONDS)
    is_paused = Q(paused_at__isnull=False) & (Q(paused_until=None) | Q(paused_until__gt=now))
    # As there, the first that is true decides.
    cases = {
        RunnerStatus.REVOKED: Q(removed_at__isnull=False),
        RunnerStatus.NEVER_CONTACTED: Q(last_heartbeat_at=None),
        RunnerStatus.OFFLINE: (Q(session="") & ~is_paused)
        | (~Q(session="") & Q(last_heartbeat_at__lt=limit)),
        RunnerStatus.UNHEALTHY: Q(quarantined_until__gt=now) | ~Q(trouble=""),
        RunnerStatus.DRAINING: Q(is_draining=True),
        RunnerStatus.PAUSED: is_paused,
        RunnerStatus.BUSY: Q(pk__in=holding),
    }
    return Case(
        *(When(condition, then=Value(str(status))) for status, condition in cases.items()),
        default=Value(str(RunnerStatus.IDLE)),
        output_field=CharField(),
    )
