"""The cast, what it works with, and a real broker of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from runners import accounts, broker, nodes
from tests import broker as real_broker
from tests.cast import cast, registration, runner, running_task, superuser, task, template

__all__ = ["cast", "registration", "runner", "running_task", "superuser", "task", "template"]


@pytest.fixture(scope="session", params=["valkey", "redis"])
def broker_url(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The administrator's URL of a broker; the tests run once on each kind."""
    binary = real_broker.binaries().get(request.param)
    if binary is None:
        if request.param in real_broker.required():
            pytest.fail(f"{request.param} is required and not installed")
        pytest.skip(f"no {request.param} on this machine")
    with real_broker.running(binary, tmp_path_factory.mktemp(request.param)) as url:
        yield url


@pytest.fixture
def real(broker_url: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Forge talks to a real broker, empty at the start of each test, and waits for its answers as
    long as it takes on a machine with much to do.
    """
    for module in (broker, nodes):
        monkeypatch.setattr(module, "ANSWER_TIMEOUT", 60.0)
        monkeypatch.setattr(module, "CONNECT_TIMEOUT", 60.0)
    settings.REDIS_URL = settings.FORGE_RUNNER_BROKER_URL = broker_url
    forget_clients()
    broker.administrator().flushall()
    for name in existing_accounts():
        accounts.remove_account(name)
    yield broker_url
    forget_clients()


def existing_accounts() -> set[str]:
    """The accounts on the broker under Forge's prefix."""
    names: Any = broker.administrator().acl_users()
    return {name for name in names if name.startswith(accounts.ACCOUNT_PREFIX)}


def forget_clients() -> None:
    for cached in (broker.administrator, broker.celery_app, accounts._knows_setinfo):
        cached.cache_clear()
