"""Bodies nobody would write: never a 5xx, always JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.models import Task, TaskTemplate
from tests.api.conftest import Api
from tests.cast import Cast

TEXT = st.text(st.characters(codec=None), max_size=100)
SCALAR = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**31, 2**63, -(2**63) - 1, 10**400])
    | st.floats(allow_nan=False)
    | TEXT
)
VALUE = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=12) | st.dictionaries(TEXT, inner, max_size=5)
)
NAME = st.sampled_from(
    ["name", "description", "app", "script", "timeout_seconds", "tags", "environment"],
) | st.sampled_from(
    ["allow_parallel", "template", "concurrency", "takes_untagged", "id", "token"],
)
# Mostly a good body with a few fields replaced: those get past the first checks.
GOOD = {
    "projects/": {"name": "n"},
    "projects/{project}/templates/": {"name": "n", "script": "true"},
    "projects/{project}/tasks/": {},
    "projects/{project}/runners/": {"name": "n"},
    "tasks/{task}/stop": {},
}
BODY = st.one_of(
    VALUE, st.dictionaries(NAME, VALUE, max_size=3), st.dictionaries(NAME, SCALAR, max_size=1)
)


@pytest.mark.parametrize("path", GOOD)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=BODY, is_mixed=st.booleans())
def test_no_body_makes_forge_fail(
    path: str,
    cast: Cast,
    task: Task,
    template: TaskTemplate,
    api: Callable[..., Api],
    body: Any,
    is_mixed: bool,
) -> None:
    if is_mixed and isinstance(body, dict):
        body = {"template": template.pk, **body} if "tasks" in path else {**GOOD[path], **body}
    address = path.format(project=cast.project.pk, task=task.pk)
    with transaction.atomic():
        answer = api(cast.owner).post(address, json.dumps(body))
        transaction.set_rollback(True)
    assert answer.status_code < 500, (body, answer.content)
    assert answer["Content-Type"] == "application/json"


@given(raw=st.binary(max_size=200))
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_bytes_make_forge_fail(cast: Cast, api: Callable[..., Api], raw: bytes) -> None:
    with transaction.atomic():
        answer = api(cast.owner).post("projects/", raw)
        transaction.set_rollback(True)
    assert answer.status_code in (201, 400)
