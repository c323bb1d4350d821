from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from projects.tokens import digest_of
from runners.models import Runner
from tasks.models import Task
from tests.api.conftest import Api
from tests.cast import Cast

FIELDS = {"id", "name", "status", "tags", "last_heartbeat_at", "concurrency", "takes_untagged"}
FIELDS |= {"quarantined_until", "quarantine_reason", "trouble"}
FIELDS |= {"paused_at", "paused_by", "paused_until", "pause_reason"}
FIELDS |= {"token_created_at", "older_token_expires_at", "project", "version"}


@pytest.fixture
def manager(cast: Cast, api: Callable[..., Api]) -> Api:
    return api(cast.manager)


@pytest.fixture
def path(cast: Cast) -> str:
    return f"projects/{cast.project.pk}/runners/"


def test_the_token_is_in_the_answer_that_creates_the_runner_and_nowhere_else(
    manager: Api, path: str
) -> None:
    given = {"name": "db-1", "tags": ["linux"], "concurrency": 3, "takes_untagged": False}
    answer = manager.post(path, given)
    assert answer.status_code == 201
    body = answer.json()
    assert body.keys() == {*FIELDS, "token"}
    assert body == {**body, **given, "status": "never_contacted"}
    row = Runner.objects.get(pk=body["id"])
    assert row.tokens.get().digest == digest_of(body["token"])
    for address in (path, f"runners/{row.pk}/"):
        text = manager.get(address).content.decode()
        assert body["token"] not in text
        assert row.tokens.get().digest not in text
    assert manager.get(f"runners/{row.pk}/").json().keys() == FIELDS


def test_a_name_is_enough(manager: Api, path: str) -> None:
    body = manager.post(path, {"name": "a"}).json()
    assert (body["tags"], body["concurrency"], body["takes_untagged"]) == ([], 4, True)


def test_a_taken_name_is_409_until_its_runner_is_removed(
    manager: Api, path: str, runner: Runner
) -> None:
    answer = manager.post(path, {"name": "web-1"})
    assert (answer.status_code, answer.json()["code"]) == (409, "runner_name_taken")
    assert manager.delete(f"runners/{runner.pk}/").status_code == 204
    assert manager.post(path, {"name": "web-1"}).status_code == 201


def test_removing_a_runner_ends_its_tasks_and_hides_it(
    manager: Api, path: str, runner: Runner, running_task: Task
) -> None:
    manager.delete(f"runners/{runner.pk}/")
    assert manager.get(f"runners/{runner.pk}/").status_code == 404
    assert manager.get(path).json()["count"] == 0
    task = manager.get(f"tasks/{running_task.pk}/").json()
    assert (task["state"], task["runner"]) == ("failed", runner.pk)


def test_the_status_follows_heartbeats_and_tasks(
    manager: Api, runner: Runner, running_task: Task
) -> None:
    def status_when_heard(ago: timedelta) -> str:
        heard = timezone.now() - ago
        Runner.objects.filter(pk=runner.pk).update(last_heartbeat_at=heard, session="s")
        return str(manager.get(f"runners/{runner.pk}/").json()["status"])

    assert status_when_heard(timedelta(0)) == "busy"
    assert status_when_heard(timedelta(days=1)) == "offline"


def test_the_list_takes_the_same_queries_for_one_runner_and_for_many(
    manager: Api, path: str, runner: Runner
) -> None:
    manager.get(path)  # The first use of a token in a minute is noted.
    counts = []
    for number in range(2):
        with CaptureQueriesContext(connection) as queries:
            manager.get(path)
        counts.append(len(queries))
        for other in range(5):
            manager.post(path, {"name": f"r{number}-{other}", "tags": ["linux", "gpu"]})
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "Web 1"),
        ("name", "-a"),
        ("name", "x" * 61),
        ("concurrency", 0),
        ("concurrency", 101),
        ("concurrency", 10**30),
        ("tags", ["a b"]),
        ("tags", [f"t{number}" for number in range(11)]),
        ("takes_untagged", None),
        ("token", "fgr_mine"),
        ("status", "idle"),
    ],
)
def test_a_value_that_is_not_allowed_is_400_and_names_its_field(
    field: str, value: object, manager: Api, path: str
) -> None:
    answer = manager.post(path, {"name": "ok", field: value})
    assert answer.status_code == 400
    assert answer.json()["fields"].keys() == {field}
