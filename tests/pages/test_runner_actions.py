"""What the pages of runners offer for each status, and what a silent one's page says to look at."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from runners.models import Runner
from tasks.lifecycle import TaskState
from tasks.models import Task
from tests.cast import Cast
from tests.moments import day_of

Browser = Callable[[User | None], Client]
AGO = timedelta(minutes=12)


def hear(runner: Runner, **fields: Any) -> None:
    now = timezone.now()
    told = {"connected_at": now, "last_heartbeat_at": now, "session": "one"} | fields
    Runner.objects.filter(pk=runner.pk).update(**told)


def read(client: Client, address: str) -> str:
    """The page's words, without markup and with single spaces."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", client.get(address).text))


def test_a_silent_runner_says_what_its_tasks_wait_for_and_where_to_look(
    cast: Cast, running_task: Task, runner: Runner, browser: Browser
) -> None:
    now = timezone.now()
    hear(runner, last_heartbeat_at=now - AGO, host_name="west.example.net")
    Task.objects.update(
        state=TaskState.UNREACHABLE, unreachable_at=now - AGO, wait_ends_at=now + AGO
    )
    address = f"/runners/{runner.pk}/"
    text = read(browser(cast.viewer), address)
    ends = f"{timezone.localtime(now + AGO):%H:%M}"
    assert "Not heard for 12 min" in text
    assert re.search(rf"#{running_task.pk} waits until \S*? ?{ends} \w+, then counts as lost", text)
    assert f'href="/tasks/{running_task.pk}/">#{running_task.pk}</a> waits until' in (
        browser(cast.viewer).get(address).text
    )
    for place in ("west.example.net", "systemctl status forge-runner", "/healthz"):
        assert place in text
    pause = f"{address}pause/"
    unknown = f"nobody knows whether the task that it holds (#{running_task.pk}) goes on."
    assert unknown in read(browser(cast.manager), pause)
    Runner.objects.update(session="")
    assert "Its worker was shut down 12 min ago" in read(browser(cast.viewer), address)
    hear(runner)
    assert f"The task that it runs (#{running_task.pk}) goes on." in read(
        browser(cast.manager), pause
    )
    assert 'id="silent"' not in browser(cast.viewer).get(address).text


@pytest.mark.parametrize(("more", "words"), [(1, "1 more task."), (2, "2 more tasks.")])
def test_a_silent_runner_counts_the_tasks_that_it_does_not_name(
    more: int, words: str, cast: Cast, running_task: Task, runner: Runner, browser: Browser
) -> None:
    hear(runner, last_heartbeat_at=timezone.now() - AGO)
    row = Task.objects.get(pk=running_task.pk)
    for number in range(2 + more):
        row.pk, row.is_exclusive, row.nonce = None, False, f"{number:022}"
        row.save(force_insert=True)
    text = read(browser(cast.viewer), f"/runners/{runner.pk}/")
    assert f"was running. It holds {words} It takes nothing new" in text


def test_the_end_of_a_pause_and_of_a_quarantine_has_its_day(
    cast: Cast, runner: Runner, browser: Browser
) -> None:
    now = timezone.now()
    end = now + timedelta(days=7)
    hear(runner)
    paused = {"paused_at": now, "pause_reason": "Moved", "paused_until": end}
    cut = {"quarantined_until": end, "quarantine_reason": "It wrote too much."}
    Runner.objects.filter(pk=runner.pk).update(**paused, **cut)
    text = read(browser(cast.viewer), f"/runners/{runner.pk}/")
    day = f"{day_of(end, now)} {end:%H:%M}"
    assert f"It takes nothing new until {day}, and then resumes by itself." in text
    assert f"It takes no new tasks until {day}." in text


@pytest.mark.parametrize(
    ("fields", "who", "action"),
    [
        ({}, "manager", "Pause"),
        ({}, "viewer", ""),
        ({"last_heartbeat_at": None, "session": ""}, "manager", "Set up"),
        ({"last_heartbeat_at": None, "session": ""}, "viewer", "Diagnose"),
        ({"last_heartbeat_at": "silent"}, "viewer", "Diagnose"),
        ({"trouble": "No space left"}, "manager", "Diagnose"),
        ({"is_draining": True}, "manager", ""),
        ({"paused_at": "now", "pause_reason": "Update"}, "manager", "Resume"),
        ({"paused_at": "now", "pause_reason": "Update"}, "viewer", ""),
    ],
)
def test_the_list_offers_what_a_runner_needs(
    fields: dict[str, Any], who: str, action: str, cast: Cast, runner: Runner, browser: Browser
) -> None:
    now = timezone.now()
    moments = {"silent": now - AGO, "now": now}
    hear(runner, **{name: moments.get(value, value) if isinstance(value, str) else value
                    for name, value in fields.items()})  # fmt: skip
    text = browser(getattr(cast, who)).get(f"/projects/{cast.project.pk}/runners/").text
    found = re.findall(rf'id="act-{runner.pk}"[^>]*>([^<]+)<span class="vh"> web-1</span>', text)
    assert found == [action] * bool(action)


def test_a_runner_is_resumed_from_the_list(cast: Cast, runner: Runner, browser: Browser) -> None:
    hear(runner, paused_at=timezone.now(), pause_reason="Update")
    manager, address = browser(cast.manager), f"/projects/{cast.project.pk}/runners/"
    (action,) = re.findall(r'formaction="([^"]+resume[^"]+)"', manager.get(address).text)
    answer = manager.post(action)
    assert answer["Location"] == address
    assert "web-1 takes tasks again." in manager.get(address).text
    runner.refresh_from_db()
    assert not runner.is_paused(now=timezone.now())


def test_whoever_paused_a_runner_is_named_as_people_know_them(
    cast: Cast, task: Task, runner: Runner, browser: Browser
) -> None:
    cast.manager.first_name, cast.manager.last_name = "Ana", "Ribeiro"
    cast.manager.save()
    hear(runner, paused_at=timezone.now(), paused_by=cast.manager, pause_reason="Update")
    viewer = browser(cast.viewer)
    assert "Paused by Ana Ribeiro: Update" in read(viewer, f"/projects/{cast.project.pk}/runners/")
    assert "is paused by Ana Ribeiro: Update" in read(viewer, f"/tasks/{task.pk}/")
    text = viewer.get(f"/runners/{runner.pk}/").text
    assert '<span title="manager">Ana Ribeiro</span>' in text


def test_so_is_whoever_drains_one_or_stops_a_task(
    cast: Cast, running_task: Task, runner: Runner, browser: Browser
) -> None:
    for member, first in ((cast.manager, "Ana"), (cast.operator, "A\u202eda\n")):
        member.first_name, member.last_name = first, "Ribeiro"
        member.save()
    hear(runner)
    assert browser(cast.manager).post(f"/runners/{runner.pk}/drain/", {"reason": "Update"})
    page = f"/tasks/{running_task.pk}/"
    browser(cast.operator).post(f"{page}stop/")
    viewer = browser(cast.viewer)
    assert "Drained by Ana Ribeiro: Update" in read(viewer, f"/projects/{cast.project.pk}/runners/")
    assert "Stopped by Ada Ribeiro." in read(viewer, page)


def test_what_a_silent_runner_holds_is_grey(
    cast: Cast, running_task: Task, runner: Runner, browser: Browser
) -> None:
    viewer, address = browser(cast.viewer), f"/projects/{cast.project.pk}/runners/"
    hear(runner)
    assert '<rect class="on"' in viewer.get(address).text
    hear(runner, last_heartbeat_at=timezone.now() - AGO)
    text = viewer.get(address).text
    assert '<rect class="on"' not in text and '<rect class="hold"' in text


@pytest.mark.parametrize("action", ["resume", "lift", "test"])
def test_a_click_that_a_sign_in_came_between_leads_to_the_runner_and_says_so(
    action: str, cast: Cast, runner: Runner, browser: Callable[..., Client]
) -> None:
    said = browser(cast.manager).get(f"/runners/{runner.pk}/{action}/", follow=True)
    assert said.redirect_chain == [(f"/runners/{runner.pk}/", 302)]
    # It stays until somebody has read it, and has no tick.
    toast = said.text.split('class="pop toast warn" role="status" >', 1)[1]
    assert "Nothing was changed yet" in toast
    assert browser(cast.manager).put(f"/runners/{runner.pk}/{action}/").status_code == 405
