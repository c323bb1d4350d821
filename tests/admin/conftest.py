from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.cast import cast, registration, runner, running_task, superuser, task, template

__all__ = ["cast", "registration", "runner", "running_task", "superuser", "task", "template"]


@pytest.fixture
def admin(superuser: User) -> Client:
    client = Client()
    client.force_login(superuser)
    return client
