"""`/readyz`, which anybody may ask as often as they like."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from forge import health
from runners import broker
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
    assert Client().get("/readyz").json() == {"database": True, "broker": False}
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
