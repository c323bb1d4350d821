"""What the rows say of times, where the clock that they were written by is no longer the same."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import DateTimeField, ExpressionWrapper, F, Value

from runners.models import Runner
from tasks.models import Task
from tasks.policies import CLOCK_DIFFERENCE, lease_end
from tasks.querysets import TaskQuerySet


def mend_times(*, now: datetime, set_by: timedelta, elapsed: timedelta | None) -> None:
    """Have waits last as long as they were to, and nothing that decides be dated in the future.

    The clock was set by `set_by` within the time `elapsed` before `now`; None where nobody knows
    whether it was. May be repeated where it has failed.
    """
    _end_future(now=now)
    with transaction.atomic():
        if elapsed is not None and abs(set_by) > CLOCK_DIFFERENCE:
            _move_waits(set_by, elapsed, now=now)
        _begin_waits_now(now=now)


def _end_future(*, now: datetime) -> None:
    """Nothing can have been later than now. Whoever reads otherwise would believe it for as long as
    the clock was set back: that a runner was heard, that a hint is on its way.
    """
    runners = Runner.objects.present()
    runners.filter(last_heartbeat_at__gt=now).update(last_heartbeat_at=now)
    runners.filter(connected_at__gt=now).update(connected_at=now)
    _update(Task.objects.held().filter(claimed_at__gt=now), claimed_at=now)
    # A runner counts its lease from before it was given, and that was no later than now.
    end = lease_end(now)
    _update(Task.objects.held().filter(lease_expires_at__gt=end), lease_expires_at=end)
    # As a range of queues, so that SQLite takes the index of what is out.
    Task.objects.hinted().filter(queue__gt=0, hinted_at__gt=now).update(hinted_at=now)


def _move_waits(set_by: timedelta, elapsed: timedelta, *, now: datetime) -> None:
    """All but those that began since: they may have been written by the clock as it is now."""
    rows = Task.objects.unreachable().exclude(unreachable_at__range=(now - elapsed, now))
    begin, end = F("unreachable_at") + set_by, F("wait_ends_at") + set_by
    _update(rows, unreachable_at=begin, wait_ends_at=end)


def _begin_waits_now(*, now: datetime) -> None:
    """Those that are said to begin later."""
    rows = Task.objects.unreachable().filter(wait_ends_at__gt=now, unreachable_at__gt=now)
    ahead = F("unreachable_at") - Value(now, output_field=DateTimeField())
    end = ExpressionWrapper(F("wait_ends_at") - ahead, output_field=DateTimeField())
    _update(rows, wait_ends_at=end, unreachable_at=now)


def _update(rows: TaskQuerySet, **values: Any) -> None:
    """Lock them in the order in which heartbeats lock several, so that no two wait for each
    other."""
    # Found in no order first: in that of their numbers SQLite goes along all there ever were.
    found = list(rows.order_by().values_list("pk", flat=True))
    if not found:
        return
    with transaction.atomic():
        ordered = Task.objects.filter(pk__in=found).order_by("pk")
        ids = list(ordered.select_for_update(no_key=True).values_list("pk", flat=True))
        rows.filter(pk__in=ids).update(**values)
