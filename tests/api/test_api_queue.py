"""The queue over the API, and stop all."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tasks import stopping
from tasks.lifecycle import TaskState
from tasks.models import Task, TaskTemplate
from tests.api.conftest import Api
from tests.cast import Cast


@pytest.fixture
def queued(
    cast: Cast, template: TaskTemplate, api: Callable[..., Api], no_broker: None
) -> list[int]:
    client, path = api(cast.operator), f"projects/{cast.project.pk}/tasks/"
    return [client.post(path, {"template": template.pk}).json()["id"] for _ in range(3)]


def test_the_queue_is_read_in_order_page_by_page(
    cast: Cast, queued: list[int], api: Callable[..., Api]
) -> None:
    client = api(cast.viewer)
    body = client.get(f"projects/{cast.project.pk}/queue?page_size=2").json()
    assert body["count"] == 3
    assert [row["id"] for row in body["results"]] == queued[:2]
    assert [row["ahead"] for row in body["results"]] == [0, 1]
    assert body["results"][0]["tags"] == ["linux"]
    assert body["results"][0]["waiting_for"] == "This project has no runners yet."
    assert body["results"][1]["waiting_for"] == "This project has no runners yet."
    rest = client.get(body["next"].partition("/api/v1/")[2]).json()
    assert [row["id"] for row in rest["results"]] == queued[2:]
    assert rest["next"] is None


def test_stop_all_says_what_remains_and_goes_on_where_it_was(
    cast: Cast, queued: list[int], api: Callable[..., Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "BATCH", 2)
    monkeypatch.setattr(stopping, "BUDGET_SECONDS", 0.0)
    client, path = api(cast.operator), f"projects/{cast.project.pk}/stop-all"
    first = client.post(path, {"scope": "waiting"}).json()
    assert first == {"stopped": 2, "stopping": 0, "remaining": 1, "until": queued[-1]}
    second = client.post(path, {"scope": "waiting", "until": first["until"]}).json()
    assert (second["stopped"], second["remaining"]) == (1, 0)
    assert set(Task.objects.values_list("state", flat=True)) == {TaskState.STOPPED}


@pytest.mark.parametrize(
    "body", [{"scope": "some"}, {"until": 0}, {"until": "x"}, {"untill": 3}, {"until": 2**70}]
)
def test_a_body_that_is_wrong_stops_nothing(
    body: dict[str, object], cast: Cast, queued: list[int], api: Callable[..., Api]
) -> None:
    answer = api(cast.operator).post(f"projects/{cast.project.pk}/stop-all", body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert Task.objects.filter(state=TaskState.QUEUED).count() == 3
