from __future__ import annotations

import pytest
from django.contrib.auth.models import User
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


@pytest.fixture
def admin(superuser: User) -> Client:
    client = Client()
    client.force_login(superuser)
    return client
