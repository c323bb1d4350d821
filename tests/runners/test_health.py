"""`/readyz`, which anybody may ask as often as they like."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from forge import health
from runners import broker
from tasks.models import Leadership
from tests.deployment.client import wait_for

pytestmark = pytest.mark.django_db


class BrokenBroker:
    """Counts who comes, and sends each of them away."""

    def __init__(self, server: socket.socket) -> None:
        self._server = server
        self.visits = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                visitor = self._server.accept()[0]
                self.visits += 1
                visitor.close()


@pytest.fixture
def broken(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[BrokenBroker]:
    monkeypatch.setattr(health, "_broker", health._Broker())
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings.REDIS_URL = f"redis://127.0.0.1:{server.getsockname()[1]}/0"
        broker.administrator.cache_clear()
        yield BrokenBroker(server)
        server.shutdown(socket.SHUT_RDWR)
    broker.administrator.cache_clear()


def test_a_broker_that_does_not_answer_is_left_alone_for_a_moment(
    broken: BrokenBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A minute here, for a machine that is busy."""
    monkeypatch.setattr(health, "AWAY_SECONDS", 60.0)
    answer = Client().get("/readyz").json()
    assert answer == {"database": True, "broker": False, "controller": False}
    wait_for(lambda: broken.visits, "the broker was asked")
    before = broken.visits
    assert Client().get("/readyz").status_code == 503
    assert broken.visits == before


def test_a_broker_that_is_back_is_found(
    broken: BrokenBroker, broker_url: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "AWAY_SECONDS", 0.1)
    assert Client().get("/readyz").status_code == 503
    settings.REDIS_URL = broker_url
    broker.administrator.cache_clear()
    wait_for(lambda: Client().get("/readyz").status_code == 200, "Forge is ready")


def test_it_tells_that_no_controller_leads_and_is_ready_without(
    broker_url: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that takes over from another needs a few seconds."""
    monkeypatch.setattr(health, "_broker", health._Broker())
    settings.REDIS_URL = broker_url
    broker.administrator.cache_clear()
    now = timezone.now()
    for end, leads in ((now + timedelta(minutes=1), True), (now - timedelta(seconds=20), False)):
        term = {"holder": "it", "expires_at": end}
        Leadership.objects.update_or_create(name="controller", defaults=term)
        answer = Client().get("/readyz")
        assert answer.json() == {"database": True, "broker": True, "controller": leads}
        assert answer.status_code == 200
    broker.administrator.cache_clear()


def test_of_a_database_that_is_away_it_asks_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_is_database_fine", lambda: False)
    monkeypatch.setattr(health, "is_led", lambda now: pytest.fail("it was asked"))
    assert Client().get("/readyz").json()["controller"] is None
