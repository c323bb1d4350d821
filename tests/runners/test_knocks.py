"""A wrong token is remembered for a while: not which one, and not whose."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import redis
from django.test import Client
from django.utils import timezone

from runners.broker import administrator
from runners.knocks import KEPT, knocks, registration_knocks
from runners.models import RegistrationToken, Runner
from tests.cast import Cast

pytestmark = pytest.mark.django_db


def test_an_unknown_token_is_remembered_and_no_other_refusal(
    real: str, cast: Cast, runner: Runner
) -> None:
    broker: redis.Redis = administrator()
    assert knocks.last() is None
    for header in ("Bearer nonsense", "Basic eDp5"):
        Client().post("/runner/v1/verify", headers={"Authorization": header})
    assert knocks.last() is None
    knocks._due_at = 0.0
    token = "fgr_" + "x" * 43
    answer = Client().post("/runner/v1/verify", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401
    last = knocks.last()
    assert last is not None and timedelta() <= last < KEPT
    client = Client()
    client.force_login(cast.manager)
    # It is the runner's that was made before it; one that was made since has nothing to do with it.
    page = f"/runners/{runner.pk}/contact/"
    assert "token was cut" in client.get(page).text
    Runner.objects.update(created_at=timezone.now() + timedelta(seconds=1))
    assert "token was cut" not in client.get(page).text
    assert broker.get("forge-unknown-token") == b"1"


def test_an_unknown_registration_token_is_remembered_apart(
    real: str, cast: Cast, registration: RegistrationToken
) -> None:
    client = Client()
    client.force_login(cast.manager)
    page = f"/registration-tokens/{registration.pk}/hosts/"
    header = {"Authorization": "Bearer fgr_" + "x" * 43}
    knocks._due_at = registration_knocks._due_at = 0.0
    assert Client().post("/runner/v1/verify", headers=header).status_code == 401
    assert "token was cut" not in client.get(page).text
    header = {"Authorization": "Bearer fgt_" + "x" * 43}
    assert Client().post("/runner/v1/register", headers=header).status_code == 401
    assert "token was cut" in client.get(page).text
    # What came before it was made has nothing to do with it.
    later = timezone.now() + timedelta(seconds=1)
    RegistrationToken.objects.update(created_at=later)
    assert "token was cut" not in client.get(page).text


def test_a_broker_that_is_away_keeps_nobody_waiting(settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    administrator.cache_clear()
    try:
        knocks.note()
        assert knocks.last() is None
    finally:
        administrator.cache_clear()
