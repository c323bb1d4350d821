"""A client of the API that signs in with a token, as scripts do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from projects.operations import create_user_token
from tests.cast import (
    access_key,
    cast,
    registration,
    runner,
    running_task,
    superuser,
    task,
    template,
    variable_group,
)

__all__ = [
    "access_key",
    "cast",
    "registration",
    "runner",
    "running_task",
    "superuser",
    "task",
    "template",
    "variable_group",
]


@dataclass
class Api:
    """Sends JSON to /api/v1/…; `user` None is nobody."""

    user: User | None
    client: Client = field(default_factory=lambda: Client(raise_request_exception=False))
    headers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.user is not None:
            now = timezone.now()
            new = create_user_token(user=self.user, name="tests", expires_at=None, now=now)
            self.headers["authorization"] = f"Bearer {new.token}"

    def send(self, method: str, path: str, body: object = None, **options: Any) -> Any:
        if body is not None:
            options |= {"data": body, "content_type": "application/json"}
        call = getattr(self.client, method.lower())
        return call(f"/api/v1/{path}", headers=self.headers, **options)

    def get(self, path: str, **options: Any) -> Any:
        return self.send("GET", path, **options)

    def post(self, path: str, body: object, **options: Any) -> Any:
        return self.send("POST", path, body, **options)

    def patch(self, path: str, body: object, **options: Any) -> Any:
        return self.send("PATCH", path, body, **options)

    def delete(self, path: str) -> Any:
        return self.send("DELETE", path)


@pytest.fixture
def api() -> Callable[[User | None], Api]:
    return Api


@pytest.fixture
def no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would go to the broker on commit goes nowhere."""
    monkeypatch.setattr("tasks.publish.publish", lambda *_: None)
    monkeypatch.setattr("tasks.operations.publish", lambda *_: None)
    monkeypatch.setattr("tasks.operations.announce", lambda *_: None)
    monkeypatch.setattr("runners.accounts.try_to_apply", lambda *_: None)
    monkeypatch.setattr("runners.accounts.try_to_remove", lambda *_: None)
