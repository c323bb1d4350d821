from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import NON_FIELD_ERRORS
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
    "refusal",
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


def refusal(answer: Any, field: str = NON_FIELD_ERRORS) -> str:
    """Why nothing was saved, as the form that came back says it, at one field or over all."""
    assert answer.status_code == 200
    (sentence,) = answer.context["adminform"].errors[field]
    return str(sentence)
