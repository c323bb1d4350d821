"""What a runner takes is changed by page and API, and nothing else of it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client
from django.utils import timezone

from runners.errors import RunnerRemovedError
from runners.models import Runner
from runners.operations import change_runner, queue_for, remove_runner, tags_named
from tasks.models import Task
from tests.cast import Cast

pytestmark = pytest.mark.django_db


def tags_of(runner: Runner) -> list[str]:
    return list(runner.tags.values_list("name", flat=True))


def test_only_what_is_named_changes(runner: Runner) -> None:
    runner.refresh_from_db()
    before = (runner.name, runner.takes_untagged, tags_of(runner))
    change_runner(runner=runner, changes={"concurrency": 7})
    runner.refresh_from_db()
    assert runner.concurrency == 7
    assert (runner.name, runner.takes_untagged, tags_of(runner)) == before


def test_its_queues_follow_its_tags(cast: Cast, runner: Runner) -> None:
    gpu = tags_named(project=cast.project, names=["gpu"])
    queue = queue_for(project=cast.project, tags=gpu)
    assert not runner.may_take(queue)
    row = change_runner(runner=runner, changes={"takes_untagged": False}, tags=["gpu"])
    assert {one.name for one in row.queues()} == {"tasks.gpu"}


@pytest.mark.parametrize("wrong", [{"concurrency": 0}, {"concurrency": 101}])
def test_what_is_not_possible_changes_nothing(runner: Runner, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        change_runner(runner=runner, changes=wrong, tags=["gpu"])
    assert "gpu" not in tags_of(runner)


def test_a_removed_runner_is_not_changed(runner: Runner) -> None:
    remove_runner(runner=runner, now=timezone.now())
    with pytest.raises(RunnerRemovedError):
        change_runner(runner=runner, changes={"concurrency": 2})


def test_the_page_says_which_tasks_nobody_may_take_now(
    cast: Cast, runner: Runner, task: Task
) -> None:
    client = Client()
    client.force_login(cast.manager)
    page = f"/runners/{runner.pk}/change/"
    form = client.get(page)
    assert 'value="linux' in form.text
    refused = client.post(page, {"tags": "LINUX", "concurrency": 0})
    assert refused.status_code == 400 and "Use linux." in refused.text
    assert 'value="LINUX"' in refused.text
    saved = client.post(
        page, {"tags": "gpu", "concurrency": 3, "takes_untagged": "on"}, follow=True
    )
    assert "1 task that waits can be taken by no runner now." in saved.text
    assert tags_of(runner) == ["gpu"]
    again = client.post(
        page, {"tags": "gpu", "concurrency": 3, "takes_untagged": "on"}, follow=True
    )
    assert "no runner now" not in again.text


def test_two_tabs_do_not_undo_each_other(cast: Cast, runner: Runner) -> None:
    client = Client()
    client.force_login(cast.manager)
    page = f"/runners/{runner.pk}/change/"
    found = re.search(r'name="version" value="([^"]+)"', client.get(page).text)
    assert found
    opened = {"version": found[1], "takes_untagged": "on"}
    assert client.post(page, opened | {"tags": "gpu", "concurrency": 3}).status_code == 302
    late = client.post(page, opened | {"tags": "linux", "concurrency": 9})
    assert late.status_code == 409 and "Not saved" in late.text and 'value="9"' in late.text
    assert tags_of(runner) == ["gpu"]
    over = re.search(r'name="over" value="([^"]+)"', late.text)
    assert over
    given = opened | {"tags": "linux", "concurrency": 9, "over": over[1]}
    assert client.post(page, given).status_code == 302
    assert tags_of(runner) == ["linux"]


def test_the_api_changes_what_the_body_names(cast: Cast, runner: Runner) -> None:
    client = Client()
    client.force_login(cast.manager)
    client.cookies["forge_csrf"] = "a" * 32
    path = f"/api/v1/runners/{runner.pk}/"

    def patch(body: dict[str, Any]) -> Any:
        headers = {"X-CSRFToken": "a" * 32}
        return client.patch(path, body, content_type="application/json", headers=headers)

    body = patch({"tags": ["gpu", "linux"]}).json()
    assert (body["tags"], body["concurrency"]) == (["gpu", "linux"], runner.concurrency)
    for wrong in ({"name": "other"}, {"concurrency": 0}, {"tags": ["A B"]}, {"tags": None}):
        answer = patch(wrong)
        assert answer.status_code == 400, answer.text
    assert set(tags_of(runner)) == {"gpu", "linux"}
    read = client.get(path)["ETag"]
    assert patch({"concurrency": 7}).status_code == 200
    headers = {"X-CSRFToken": "a" * 32, "If-Match": read}
    kind = "application/json"
    late = client.patch(path, {"concurrency": 8}, content_type=kind, headers=headers)
    assert (late.status_code, late.json()["code"]) == (412, "changed_meanwhile")
