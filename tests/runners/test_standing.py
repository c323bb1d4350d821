"""The status that the database works out is the one that Python says, in every case."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import product
from typing import Any

import pytest
from django.utils import timezone

from projects.models import Project
from runners.models import Runner
from runners.standing import status_in_database
from runners.status import RunnerStatus

NOW = timezone.now()
SECOND = timedelta(seconds=1)


def _at(seconds: float | None) -> datetime | None:
    return None if seconds is None else NOW + seconds * SECOND


CASES = [
    {
        "last_heartbeat_at": _at(heard),
        "session": session,
        "quarantined_until": _at(cut),
        "quarantine_reason": "It wrote too much.",
        "trouble": trouble,
        "is_draining": is_draining,
        "paused_at": _at(paused),
        "pause_reason": "Update",
        "paused_until": _at(until) if paused is not None else None,
    }
    for heard, session, cut, trouble, is_draining, paused, until in product(
        (None, -1, -29, -30, -31),
        ("", "one"),
        (None, -1, 1),
        ("", "The journal cannot be written"),
        (False, True),
        (None, -9),
        (None, -1, 1),
    )
]


@pytest.mark.django_db
@pytest.mark.parametrize("is_holding", [False, True])
def test_both_say_the_same(is_holding: bool, settings: Any) -> None:
    settings.FORGE_OFFLINE_SECONDS = 30.0
    project = Project.objects.create(name="Payments")
    made = [Runner(project=project, name=f"r-{n}", **case) for n, case in enumerate(CASES)]
    gone = Runner(project=project, name="gone", removed_at=NOW, last_heartbeat_at=NOW, session="s")
    Runner.objects.bulk_create([*made, gone])
    everybody = Runner.objects.order_by()
    holding = (everybody if is_holding else everybody.none()).values("pk")
    rows = everybody.annotate(standing=status_in_database(NOW, holding=holding))
    said = {row.pk: row.standing for row in rows}  # type: ignore[attr-defined]
    assert said == {row.pk: str(row.status_at(NOW, running=int(is_holding))) for row in rows}
    busy = RunnerStatus.BUSY if is_holding else RunnerStatus.IDLE
    assert set(said.values()) == set(RunnerStatus.values) - {
        RunnerStatus.IDLE, RunnerStatus.BUSY,
    } | {busy}  # fmt: skip
