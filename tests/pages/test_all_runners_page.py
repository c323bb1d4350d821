"""The runners of all projects: who sees which, the worst first, filtered and paged."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from forge.pages import all_runners
from runners.models import Runner
from runners.operations import create_runner, pause_runner
from tasks.models import Task
from tests.cast import Cast

HEARD: dict[str, Any] = {
    "session": "one",
    "version": "1.4",
    "address": "10.20.0.11",
    "host_name": "h.example",
}


def runner_of(cast: Cast, name: str, *, tags: tuple[str, ...] = (), **fields: object) -> Runner:
    project = fields.pop("project", cast.project)
    made = create_runner(
        project=project,  # type: ignore[arg-type]
        name=name,
        tags=tags,
        concurrency=2,
        takes_untagged=True,
        by=cast.owner,
        now=timezone.now(),
    ).runner
    Runner.objects.filter(pk=made.pk).update(**fields)
    made.refresh_from_db()
    return made


@pytest.fixture
def fleet(cast: Cast) -> dict[str, Runner]:
    now = timezone.now()
    heard = HEARD | {"last_heartbeat_at": now}
    found = {
        "idle": runner_of(cast, "idle", tags=("gpu",), **heard),
        "never": runner_of(cast, "never", created_at=now - timedelta(hours=2)),
        "paused": runner_of(cast, "paused", **heard | {"version": "1.5"}),
        "offline": runner_of(
            cast, "offline", tags=("gpu",), **heard | {"last_heartbeat_at": now - timedelta(days=1)}
        ),
        "theirs": runner_of(
            cast, "theirs", project=cast.outsiders_project, **heard | {"address": "192.0.2.7"}
        ),
    }
    pause_runner(runner=found["paused"], reason="Update", until=None, by=cast.owner, now=now)
    return found


Names = Callable[..., list[str]]


@pytest.fixture
def names(browser: Callable[..., Client]) -> Names:
    def ask(user: User, query: str = "") -> list[str]:
        text = browser(user).get(f"/runners/?{query}").content.decode()
        return re.findall(r'id="runner-\d+"[^>]*>([^<]*)<', text)

    return ask


def test_the_worst_stand_first_and_everybody_sees_their_own(
    cast: Cast, superuser: User, fleet: dict[str, Runner], names: Names
) -> None:
    assert names(cast.viewer) == ["offline", "never", "paused", "idle"]
    assert names(cast.outsider) == ["theirs"]
    assert names(superuser) == ["offline", "never", "paused", "idle", "theirs"]
    assert names(cast.viewer, f"project={cast.outsiders_project.pk}") == []


def test_they_are_filtered_by_status_project_tag_version_and_text(
    cast: Cast, superuser: User, fleet: dict[str, Runner], names: Names
) -> None:
    found = {
        "status=trouble": ["offline", "never"],
        "status=ready": ["idle", "theirs"],
        "status=out": ["paused"],
        "status=never_contacted": ["never"],
        "status=nonsense&tag=gpu": ["offline", "idle"],
        f"project={cast.outsiders_project.pk}": ["theirs"],
        "project=x": [],
        "tag=gpu": ["offline", "idle"],
        "tag=gpu&status=ready": ["idle"],
        "version=1.5": ["paused"],
        "q=OFF": ["offline"],
        "q=192.0.2": ["theirs"],
        "q=h.example&version=1.5": ["paused"],
        "q=%25": [],
        "q=%00": ["offline", "never", "paused", "idle", "theirs"],
    }
    assert {query: names(superuser, query) for query in found} == found


def test_who_needs_attention_is_the_same_wherever_it_is_counted(
    cast: Cast, fleet: dict[str, Runner], names: Names, browser: Callable[..., Client]
) -> None:
    """A runner that was just added is missed by nobody yet; one that was cut off is."""
    now = timezone.now()
    runner_of(cast, "new")
    for name, hours in (("cut-off", 1), ("let-in-again", -1)):
        until = now + timedelta(hours=hours)
        runner_of(cast, name, quarantined_until=until, quarantine_reason="Too many events")
    viewer, project = browser(cast.viewer), f"/projects/{cast.project.pk}/"
    trouble = ["offline", "cut-off", "never"]
    assert names(cast.viewer, "status=trouble") == trouble
    assert names(cast.viewer, "status=never_contacted") == [
        "cut-off", "let-in-again", "never", "new",
    ]  # fmt: skip
    api = viewer.get("/api/v1/runners/?status=trouble").json()
    assert [row["name"] for row in api["results"]] == trouble

    home = viewer.get("/").text
    assert re.search(r'href="/runners/\?status=trouble">All 3<', home)
    assert {one for one in ("new", *trouble) if f"<b>{one}</b> in" in home} == set(trouble)
    every = viewer.get("/runners/")
    assert "3 need attention" in every.text
    of_project = viewer.get(f"{project}runners/?status=trouble")
    assert [row.runner.name for row in of_project.context["rows"]] == trouble
    assert "3 need attention." in of_project.text
    assert "1 offline, 2 never contacted and 2 just added" in of_project.text
    for page in (every, of_project):
        counts = {one["word"]: one["count"] for one in page.context["segments"]}
        assert counts == {"all": 7, "trouble": 3, "ready": 1, "out": 1}
    assert of_project.context["trouble"] == of_project.context["in_trouble"] == 3
    overview = viewer.get(project)
    assert [row.runner.name for row in overview.context["trouble"]] == trouble


def test_a_runner_with_a_task_is_busy_and_what_it_runs_is_said(
    cast: Cast, running_task: Task, browser: Callable[..., Client], names: Names
) -> None:
    Runner.objects.update(last_heartbeat_at=timezone.now(), session="one")
    assert names(cast.viewer, "status=busy") == ["web-1"]
    text = browser(cast.viewer).get("/runners/").content.decode()
    assert f"Running #{running_task.pk}" in text
    assert "1 of 1 runner is ready." in text


def test_pages_and_live_parts_keep_the_filter(
    cast: Cast,
    fleet: dict[str, Runner],
    browser: Callable[..., Client],
    monkeypatch: pytest.MonkeyPatch,
    names: Names,
) -> None:
    monkeypatch.setattr(all_runners, "PAGE_RUNNERS", 2)
    assert names(cast.viewer, "page=2") == ["paused", "idle"]
    text = browser(cast.viewer).get("/runners/?tag=gpu&page=1").content.decode()
    assert "?part=live&amp;tag=gpu" in text
    first = browser(cast.viewer).get("/runners/?q=e").content.decode()
    assert 'href="?q=e&amp;page=2"' in first
    part = browser(cast.viewer).get("/runners/?part=live").content.decode()
    assert "<html" not in part
    assert "offline" in part


def test_many_runners_take_no_more_questions_than_few(
    cast: Cast, fleet: dict[str, Runner], browser: Callable[..., Client]
) -> None:
    client = browser(cast.viewer)

    def questions() -> int:
        with CaptureQueriesContext(connection) as queries:
            client.get("/runners/")
        return len(queries)

    few = questions()
    for number in range(15):
        runner_of(cast, f"more-{number}", tags=("gpu", f"t{number}"))
    assert questions() == few <= 14


def test_home_and_every_page_lead_there(
    cast: Cast, fleet: dict[str, Runner], browser: Callable[..., Client]
) -> None:
    client = browser(cast.viewer)
    assert 'href="/runners/?status=trouble"' in client.get("/").content.decode()
    assert 'href="/runners/"' in client.get(f"/projects/{cast.project.pk}/").content.decode()
