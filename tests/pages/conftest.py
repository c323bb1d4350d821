"""The cast, and browsers for them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client

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


@pytest.fixture(autouse=True)
def _no_figures_of_earlier_tests() -> None:
    """They are kept by project, and projects of different tests have one id."""
    cache.clear()


@pytest.fixture
def browser() -> Callable[[User | None], Client]:
    """A signed-in client; None for nobody."""

    def signed_in(user: User | None) -> Client:
        client = Client(raise_request_exception=False)
        if user is not None:
            client.force_login(user)
        return client

    return signed_in
