from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from runners.models import Runner
from tasks.models import Task, TaskTemplate
from tests.api.conftest import Api
from tests.cast import Cast

FIELDS = {
    "id", "template", "state", "reason", "exit_code", "attempt", "runner", "sources", "created_at",
    "queued_at", "claimed_at", "started_at", "finished_at", "log_bytes", "log_sha256",
    "log_complete", "rerun_of", "stop_requested_at", "stop_reason", "force_requested_at",
    "lease_expires_at",
    "unreachable_at", "wait_ends_at", "lost_runner_policy", "lost_runner_wait_seconds",
    "max_attempts", "stop_steps", "attempts",
    "log_written_bytes", "log_gap_offset", "log_gap_bytes", "log_problem",
}  # fmt: skip


@pytest.fixture
def operator(cast: Cast, api: Callable[..., Api]) -> Api:
    return api(cast.operator)


@pytest.fixture
def path(cast: Cast) -> str:
    return f"projects/{cast.project.pk}/tasks/"


def test_a_run_is_queued(operator: Api, path: str, template: TaskTemplate) -> None:
    answer = operator.post(path, {"template": template.pk})
    assert answer.status_code == 201
    body = answer.json()
    assert body.keys() == FIELDS
    assert (body["state"], body["attempt"], body["runner"]) == ("queued", 1, None)
    waits = {"waiting_for": "This project has no runners yet."}
    assert operator.get(f"tasks/{body['id']}/").json() == body | waits


@pytest.mark.parametrize(("is_parallel", "limit"), [(True, 10), (False, 13)])
def test_running_a_template_takes_few_queries(
    is_parallel: bool,
    limit: int,
    operator: Api,
    path: str,
    template: TaskTemplate,
    runner: Runner,
    no_broker: None,
    django_capture_on_commit_callbacks: Callable[..., object],
) -> None:
    TaskTemplate.objects.filter(pk=template.pk).update(allow_parallel=is_parallel)
    operator.post(path, {"template": template.pk})
    with (
        CaptureQueriesContext(connection) as queries,
        django_capture_on_commit_callbacks(execute=True),  # type: ignore[attr-defined]
    ):
        assert operator.post(path, {"template": template.pk}).status_code == 201
    statements = [query["sql"] for query in queries if "SAVEPOINT" not in query["sql"]]
    assert len(statements) <= limit, "\n".join(statements)


@pytest.mark.parametrize("template_id", [0, -1, 10**30, "x", None, [], {}, True, 1.5, 2**63])
def test_a_template_that_is_not_there_is_400(
    template_id: object, operator: Api, path: str, cast: Cast
) -> None:
    answer = operator.post(path, {"template": template_id})
    assert answer.status_code == 400
    assert answer.json()["fields"].keys() == {"template"}


def test_a_removed_template_cannot_be_run(
    operator: Api, path: str, template: TaskTemplate, cast: Cast, api: Callable[..., Api]
) -> None:
    api(cast.owner).delete(f"templates/{template.pk}/")
    assert operator.post(path, {"template": template.pk}).status_code == 400


def test_the_list_is_newest_first_and_can_be_filtered(
    operator: Api, path: str, running_task: Task, template: TaskTemplate
) -> None:
    newer = operator.post(path, {"template": template.pk}).json()
    assert [row["id"] for row in operator.get(path).json()["results"]] == [
        newer["id"],
        running_task.pk,
    ]
    assert operator.get(f"{path}?state=running").json()["count"] == 1
    assert operator.get(f"{path}?state=running&state=queued").json()["count"] == 2
    assert operator.get(f"{path}?template={template.pk}&state=failed").json()["count"] == 0
    assert operator.get(f"{path}?template={template.pk + 1}").json()["count"] == 0


@pytest.mark.parametrize(
    "query",
    ["state=gone", "state=", "state=%00", "template=x", "template=-1", "template=", "template=1e9"],
)
def test_a_filter_that_makes_no_sense_is_400(query: str, operator: Api, path: str) -> None:
    assert operator.get(f"{path}?{query}").status_code == 400


def test_a_long_list_is_read_on_by_key_where_its_counting_ends(
    operator: Api, path: str, template: TaskTemplate, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [operator.post(path, {"template": template.pk}).json()["id"] for _ in range(7)]
    monkeypatch.setattr("forge.api.long_lists._Paginator.limit", 4)
    found, address = [], f"{path}?page_size=2"
    while address:
        body = operator.get(address).json()
        assert body["count"] == 4
        found += [row["id"] for row in body["results"]]
        address = (body["next"] or "").partition("/api/v1/")[2]
    assert found == ids[::-1]
    assert operator.get(f"{path}?before=x").status_code == 400


def test_the_list_takes_the_same_queries_for_one_task_and_for_many(
    operator: Api, path: str, task: Task, template: TaskTemplate
) -> None:
    operator.get(path)  # The first use of a token in a minute is noted.
    counts = []
    for _ in range(2):
        with CaptureQueriesContext(connection) as queries:
            operator.get(path)
        counts.append(len(queries))
        for _ in range(5):
            operator.post(path, {"template": template.pk})
    assert counts[0] == counts[1]


def test_a_waiting_task_stops_at_once(operator: Api, task: Task) -> None:
    answer = operator.send("POST", f"tasks/{task.pk}/stop", {})
    assert (answer.status_code, answer.json()["state"]) == (200, "stopped")
    assert answer.json()["reason"] == "Stopped by operator."


def test_stopping_needs_no_body(operator: Api, task: Task) -> None:
    address = f"/api/v1/tasks/{task.pk}/stop"
    answer = operator.client.generic("POST", address, headers=operator.headers)
    assert answer.status_code == 200


def test_a_running_task_is_asked_to_stop_as_often_as_one_likes(
    operator: Api, running_task: Task
) -> None:
    for _ in range(2):
        answer = operator.send("POST", f"tasks/{running_task.pk}/stop", {})
        assert (answer.status_code, answer.json()["state"]) == (200, "stopping")


def test_stopping_a_finished_task_is_409(operator: Api, task: Task) -> None:
    operator.send("POST", f"tasks/{task.pk}/stop", {})
    answer = operator.send("POST", f"tasks/{task.pk}/stop", {})
    assert (answer.status_code, answer.json()["code"]) == (409, "task_finished")


def test_a_task_shows_its_runner(operator: Api, running_task: Task, runner: Runner) -> None:
    body = operator.get(f"tasks/{running_task.pk}/").json()
    assert (body["runner"], body["state"]) == (runner.pk, "running")
