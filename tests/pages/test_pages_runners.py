"""Runners: add, watch for first contact, remove."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from projects.tokens import digest_of
from runners.models import Runner
from tasks.lifecycle import TaskState
from tasks.models import Task
from tests.cast import Cast

GOOD = {"name": "dc-west-2", "tags": "linux gpu", "concurrency": "3", "takes_untagged": "on"}


@pytest.fixture
def owner(cast: Cast, browser: Callable[..., Client]) -> Client:
    return browser(cast.owner)


def heard(runner: Runner, seconds_ago: float = 0) -> None:
    at = timezone.now() - timedelta(seconds=seconds_ago)
    Runner.objects.filter(pk=runner.pk).update(
        connected_at=at, last_heartbeat_at=at, session="one", version="1", host_name="west"
    )


def test_the_token_is_shown_once_and_stored_nowhere(owner: Client, cast: Cast) -> None:
    answer = owner.post(f"/projects/{cast.project.pk}/runners/new/", GOOD)
    text = answer.content.decode()
    (token,) = set(re.findall(r"fgr_[\w-]{20,}", text))
    runner = Runner.objects.get(name="dc-west-2")
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "no-store"
    assert runner.tokens.get().digest == digest_of(token)
    assert runner.concurrency == 3
    assert f"{token}\nEND" in text
    assert "umask 077" in text
    assert all(token not in str(session.get_decoded()) for session in Session.objects.all())
    for path in (f"/runners/{runner.pk}/", f"/projects/{cast.project.pk}/runners/"):
        assert token not in owner.get(path).content.decode()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"name": "DC West"}, "Use lower-case letters, digits, dots and dashes"),
        ({"name": "web-1"}, "already"),
        ({"tags": "Linux"}, "The tag Linux has capital letters. Use linux."),
        ({"concurrency": "0"}, "greater than or equal to 1"),
        ({"concurrency": "101"}, "less than or equal to 100"),
    ],
)
def test_what_is_wrong_is_said_and_what_was_typed_stays(
    change: dict[str, str], sentence: str, owner: Client, cast: Cast, runner: Runner
) -> None:
    typed = GOOD | change
    answer = owner.post(f"/projects/{cast.project.pk}/runners/new/", typed)
    text = answer.content.decode()
    assert answer.status_code == 400
    assert sentence in text
    assert f'value="{typed["name"]}"' in text
    assert Runner.objects.count() == 1


def test_the_contact_panel_asks_until_it_is_green(owner: Client, runner: Runner) -> None:
    path = f"/runners/{runner.pk}/contact/"
    waiting = owner.get(path).content.decode()
    assert "Waiting for first contact" in waiting
    assert "hx-get" in waiting
    heard(runner)
    green = owner.get(path).content.decode()
    assert "web-1 is ready" in green
    assert "hx-get" not in green


def test_the_sentence_tells_who_is_ready_and_who_needs_attention(
    owner: Client, cast: Cast, runner: Runner
) -> None:
    path = f"/projects/{cast.project.pk}/runners/"
    assert "0 of 1 are ready for tasks. One needs attention." in owner.get(path).content.decode()
    heard(runner)
    assert "1 of 1 is ready for tasks." in owner.get(path).content.decode()
    heard(runner, seconds_ago=720)
    assert "Offline 12 min" in owner.get(path).content.decode()


def test_a_busy_runner_names_its_tasks(
    owner: Client, cast: Cast, runner: Runner, running_task: Task
) -> None:
    heard(runner)
    text = owner.get(f"/projects/{cast.project.pk}/runners/").content.decode()
    assert f"Running #{running_task.pk}" in text
    assert "1/2" in text


def test_a_runner_that_said_goodbye_is_not_called_lost(
    owner: Client, cast: Cast, runner: Runner
) -> None:
    heard(runner)
    Runner.objects.filter(pk=runner.pk).update(session="")
    text = owner.get(f"/projects/{cast.project.pk}/runners/").content.decode()
    assert "Its worker was shut down" in text


def test_removing_tells_what_it_leads_to_and_does_it(
    owner: Client, cast: Cast, runner: Runner, running_task: Task
) -> None:
    path = f"/runners/{runner.pk}/remove/"
    text = owner.get(path).content.decode()
    assert "1 task that it holds ends as failed" in text
    assert f"#{running_task.pk}" in text
    assert "Remove and end 1 task" in text
    running_task.refresh_from_db()
    assert running_task.state == TaskState.RUNNING
    assert owner.post(path)["Location"] == f"/projects/{cast.project.pk}/runners/"
    running_task.refresh_from_db()
    assert running_task.state == TaskState.FAILED
    assert owner.get(f"/runners/{runner.pk}/").status_code == 404
    assert owner.get(f"/tasks/{running_task.pk}/").status_code == 200


def test_removing_the_last_runner_of_a_queue_says_who_stays_behind(
    owner: Client, runner: Runner, task: Task
) -> None:
    text = owner.get(f"/runners/{runner.pk}/remove/").content.decode()
    assert "1 queued task can be taken by no other runner" in text


@pytest.mark.parametrize(
    ("broker_url", "sentence"),
    [
        ("", "a way out to this address, and to nothing else."),
        ("rediss://broker.example:6380/0", "to this address and to broker.example:6380."),
    ],
)
def test_the_page_says_what_the_host_has_to_reach(
    broker_url: str,
    sentence: str,
    cast: Cast,
    browser: Callable[..., Client],
    settings: Any,
) -> None:
    settings.FORGE_RUNNER_BROKER_URL = broker_url
    page = browser(cast.owner).get(f"/projects/{cast.project.pk}/runners/new/")
    assert sentence in page.content.decode()


def test_a_runner_that_was_just_added_raises_no_alarm_and_a_forgotten_one_does(
    cast: Cast, runner: Runner, browser: Callable[..., Client]
) -> None:
    def alarms() -> int:
        page = browser(cast.owner).get(f"/projects/{cast.project.pk}/tasks/")
        return int(page.context["in_trouble"])

    assert alarms() == 0
    long_ago = timezone.now() - timedelta(hours=2)
    Runner.objects.filter(pk=runner.pk).update(created_at=long_ago)
    assert alarms() == 1
