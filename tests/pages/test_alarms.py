"""What raises an alarm in the navigation and on the first page, and what does not."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from projects.models import Membership, Project
from projects.permissions import Role
from runners.models import Runner
from tasks.lifecycle import TaskState
from tasks.models import Task, TaskTemplate
from tasks.operations import save_template
from tests.cast import Cast

HOUR = timedelta(hours=1)
SHUT_DOWN: dict[str, Any] = {"session": "", "version": "1", "host_name": "west"}


@pytest.fixture
def viewer(cast: Cast, browser: Callable[..., Client]) -> Client:
    return browser(cast.viewer)


def alarm(viewer: Client, cast: Cast) -> str:
    """What the navigation of a project says of its runners."""
    text = viewer.get(f"/projects/{cast.project.pk}/tasks/").text
    found = re.search(r'<span class="n bad" id="nav-trouble" >(.*?)</span></span>|$', text)
    return re.sub(r"<[^>]+>", "", found[1] or "") if found else ""


# ---- runners ----
def shut_down(runner: Runner, **more: object) -> None:
    """Its worker has left in good order, two hours ago."""
    left = timezone.now() - 2 * HOUR
    fields = SHUT_DOWN | {"connected_at": left, "last_heartbeat_at": left} | more
    Runner.objects.filter(pk=runner.pk).update(**fields)


def paused(cast: Cast, until: datetime | None) -> dict[str, Any]:
    begun = timezone.now() - 3 * HOUR
    return {
        "paused_at": begun,
        "paused_by": cast.owner,
        "pause_reason": "Kernel update",
        "paused_until": until,
    }


@pytest.mark.parametrize("hours", [None, 1])
def test_a_runner_that_was_paused_and_shut_down_is_no_alarm(
    hours: int | None, viewer: Client, cast: Cast, runner: Runner
) -> None:
    until = timezone.now() + hours * HOUR if hours else None
    shut_down(runner, **paused(cast, until))
    assert alarm(viewer, cast) == ""
    home = viewer.get("/").text
    assert "Runners in trouble" not in home
    assert "All runners are heard" in viewer.get(f"/projects/{cast.project.pk}/").text


def test_a_runner_that_stays_away_after_its_pause_is_an_alarm(
    viewer: Client, cast: Cast, runner: Runner
) -> None:
    shut_down(runner, **paused(cast, timezone.now() - HOUR))
    assert alarm(viewer, cast) == "1 needs attention"
    home = viewer.get("/").text
    assert "<b>web-1</b> in" in home and "?status=trouble" in home
    assert "web-1" in viewer.get("/runners/?status=trouble").text


@pytest.mark.parametrize(
    "trouble",
    [
        {"session": "one"},
        {"trouble": "The journal cannot be written"},
        {"quarantined_until": timezone.now() + 24 * HOUR, "quarantine_reason": "It wrote much."},
    ],
    ids=["silent", "unhealthy", "cut off"],
)
def test_a_pause_hides_no_trouble(
    trouble: dict[str, Any], viewer: Client, cast: Cast, runner: Runner
) -> None:
    shut_down(runner, **paused(cast, None), **{"session": ""} | trouble)
    assert alarm(viewer, cast) == "1 needs attention"
    assert "<b>web-1</b> in" in viewer.get("/").text


def test_several_need_attention_and_those_cut_off_before_they_came_too(
    viewer: Client, cast: Cast, runner: Runner
) -> None:
    shut_down(runner)
    new = Runner.objects.create(project=cast.project, name="new")
    assert alarm(viewer, cast) == "1 needs attention"
    cut = {"quarantined_until": timezone.now() + HOUR, "quarantine_reason": "It wrote too much."}
    Runner.objects.filter(pk=new.pk).update(**cut)
    assert alarm(viewer, cast) == "2 need attention"


# ---- failures ----
def ended(template: TaskTemplate, state: str, hours_ago: float) -> Task:
    """A task of a few days ago that ended then."""
    end = timezone.now() - hours_ago * HOUR
    begun = timezone.now() - 80 * HOUR
    return Task.objects.create(
        project=template.project,
        template=template,
        queue=template.queue,
        app="bash",
        script="true",
        timeout_seconds=60,
        is_exclusive=False,
        state=state,
        reason=f"It ended {hours_ago} h ago.",
        created_at=begun,
        queued_at=begun,
        finished_at=end,
    )


@pytest.mark.parametrize("state", [TaskState.FAILED, TaskState.LOST])
@pytest.mark.parametrize("others", [1, 40])
def test_a_long_task_that_fails_after_later_ones_is_shown(
    state: str, others: int, viewer: Client, template: TaskTemplate
) -> None:
    first = ended(template, state, 3)
    for _ in range(others):
        ended(template, TaskState.FAILED, 27)
    text = viewer.get("/").text
    assert "Nothing failed." not in text
    assert f'href="/tasks/{first.pk}/"' in text and "it ended 3 h ago." in text


def test_of_a_project_the_failure_that_ended_last_is_shown(
    viewer: Client, template: TaskTemplate
) -> None:
    first = ended(template, TaskState.LOST, 1)
    others = [ended(template, TaskState.FAILED, hours) for hours in (2, 5, 30)]
    text = viewer.get("/").text
    assert f'href="/tasks/{first.pk}/"' in text
    assert not [one.pk for one in others if f'href="/tasks/{one.pk}/"' in text]


def test_the_failure_that_ended_last_stands_first(
    cast: Cast, viewer: Client, template: TaskTemplate
) -> None:
    project = Project.objects.create(name="Orders")
    Membership.objects.create(project=project, user=cast.viewer, role=Role.VIEWER)
    row = TaskTemplate(project=project, name="Pack", script="true")
    other = save_template(template=row, tags=[])
    last, before = ended(template, TaskState.FAILED, 1), ended(other, TaskState.FAILED, 2)
    text = viewer.get("/").text
    assert text.index(f'id="task-{last.pk}"') < text.index(f'id="task-{before.pk}"')
