"""Runners: add, watch for first contact, remove."""

from __future__ import annotations

import html
import re
import subprocess
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import yaml
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from projects.tokens import digest_of
from runners.models import Runner
from tasks.lifecycle import TaskState
from tasks.models import Task, TaskTemplate
from tasks.operations import run_template, save_template
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


def snippets(owner: Client, cast: Cast) -> tuple[str, dict[str, str]]:
    """A new runner's token, and the ready-made texts by their ids, as a browser copies them."""
    fields = {"name": "edge-1", "tags": "edge", "concurrency": 2, "takes_untagged": "on"}
    text = owner.post(f"/projects/{cast.project.pk}/runners/new/", fields).content.decode()
    token = re.search(r"fgr_[\w-]+", text)
    assert token is not None
    found = re.findall(r'<pre class="snip[^>]* id="snip-([a-z-]+)"[^>]*>(.*?)</pre>', text, re.S)
    return token[0], {name: html.unescape(snippet) for name, snippet in found}


def test_the_commands_for_every_kind_of_host_can_be_read_by_a_shell(
    owner: Client, cast: Cast
) -> None:
    token, found = snippets(owner, cast)
    assert found.keys() == {"shell", "systemd", "container", "cloud-init"}
    for name in ("shell", "systemd", "container"):
        read = subprocess.run(["bash", "-n"], input=found[name], text=True, capture_output=True)
        assert (read.returncode, read.stderr) == (0, ""), name
        # It goes into a file, by way of no command line.
        assert f"<<'END'\n{token}\nEND\n" in found[name]


def test_the_user_data_is_what_cloud_init_reads(owner: Client, cast: Cast, settings: Any) -> None:
    token, found = snippets(owner, cast)
    assert found["cloud-init"].startswith("#cloud-config\n")
    data = yaml.safe_load(found["cloud-init"])
    files = {one["path"]: one for one in data["write_files"]}
    assert files["/etc/forge-runner/token"]["content"] == f"{token}\n"
    assert files["/etc/forge-runner/token"]["permissions"] == "0600"
    unit = files["/etc/systemd/system/forge-runner.service"]["content"]
    assert f"Environment=FORGE_URL={settings.FORGE_URL}\n" in unit
    assert unit.endswith("WantedBy=multi-user.target\n")
    assert all(isinstance(word, str) for command in data["runcmd"] for word in command)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"name": "DC West"}, "Use lower-case letters, digits, dots and dashes"),
        ({"name": "web-1"}, "already"),
        ({"tags": "Linux"}, "The tag Linux has capital letters. Use linux."),
        ({"concurrency": "0"}, "Enter a whole number from 1 to "),
        ({"concurrency": "101"}, "to 100."),
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
    new = owner.get(path).text
    assert "0 of 1 are ready for tasks." in new and "1 just added" in new
    assert "needs attention" not in new
    Runner.objects.update(created_at=timezone.now() - timedelta(hours=2))
    assert "0 of 1 are ready for tasks. 1 needs attention." in owner.get(path).text
    heard(runner)
    assert "1 of 1 is ready for tasks." in owner.get(path).content.decode()
    heard(runner, seconds_ago=720)
    assert "Offline 12 min" in owner.get(path).content.decode()


def test_a_runner_that_cannot_take_tasks_says_why_and_counts_as_trouble(
    owner: Client, cast: Cast, runner: Runner, running_task: Task
) -> None:
    why = "The journal cannot be written: No space left on device"
    heard(runner)
    Runner.objects.update(trouble=why)
    text = owner.get(f"/projects/{cast.project.pk}/runners/").text
    assert "0 of 1 are ready for tasks. 1 needs attention." in text
    assert f"Cannot take tasks: {why}; running #{running_task.pk}" in text
    text = owner.get(f"/runners/{runner.pk}/").text
    assert "It cannot take tasks" in text and f"{why}." in text
    assert 'class="n bad" id="nav-trouble"' in text and "> needs attention<" in text
    # Nobody can say so of one that is not heard.
    heard(runner, seconds_ago=3600)
    assert "It cannot take tasks" not in owner.get(f"/runners/{runner.pk}/").text


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


@pytest.mark.parametrize("way", ["pause", "drain"])
def test_a_blank_reason_is_asked_for_in_words_that_say_for_whom(
    way: str, owner: Client, runner: Runner
) -> None:
    heard(runner)
    text = owner.post(f"/runners/{runner.pk}/{way}/", {"reason": "  ", "length": ""}).text
    assert "Say why, for those whose tasks wait." in text
    assert "This field is required" not in text


def test_a_pause_is_changed_where_it_was_made_and_keeps_its_reason(
    owner: Client, runner: Runner
) -> None:
    assert ">Pause</a>" in owner.get(f"/runners/{runner.pk}/").text
    owner.post(f"/runners/{runner.pk}/pause/", {"reason": "Kernel update", "length": ""})
    assert ">Change pause</a>" in owner.get(f"/runners/{runner.pk}/").text
    form = owner.get(f"/runners/{runner.pk}/pause/").text
    assert f"Change the pause of {runner.name}?" in form and 'value="Kernel update"' in form


def test_who_changes_the_reason_of_a_pause_keeps_its_end(owner: Client, runner: Runner) -> None:
    path = f"/runners/{runner.pk}/pause/"
    assert "As it is" not in owner.get(path).text
    owner.post(path, {"reason": "Disk swap", "length": "3600"})
    runner.refresh_from_db()
    end = runner.paused_until
    assert end is not None
    form = owner.get(path)
    assert re.search(
        'value="kept" selected>As it is, for (1 h 00 min|5. min .. s) more<', form.text
    )
    assert owner.post(path, {"reason": "Disk swap, 4711", "length": "kept"}).status_code == 302
    runner.refresh_from_db()
    assert (runner.pause_reason, runner.paused_until) == ("Disk swap, 4711", end)
    Runner.objects.filter(pk=runner.pk).update(paused_until=timezone.now())
    late = owner.post(path, {"reason": "Disk swap, 4712", "length": "kept"})
    assert late.status_code == 400 and "The pause has ended meanwhile." in late.text


def test_a_pause_that_somebody_else_made_meanwhile_is_not_overwritten_unseen(
    owner: Client, cast: Cast, runner: Runner, browser: Callable[..., Client]
) -> None:
    path = f"/runners/{runner.pk}/pause/"
    seen = hidden(owner.get(path).text, "seen")
    other = {"reason": "Disk dying", "length": ""}
    assert browser(cast.manager).post(path, other | {"seen": seen}).status_code == 302
    mine = {"reason": "Kernel update", "length": "900", "seen": seen}
    answer = owner.post(path, mine)
    assert answer.status_code == 400 and 'value="Kernel update"' in answer.text
    assert "has paused it since this form was opened: Disk dying." in answer.text
    runner.refresh_from_db()
    assert (runner.pause_reason, runner.paused_until) == ("Disk dying", None)
    # Who has read it may do so all the same, and sends it twice without harm.
    mine["seen"] = hidden(answer.text, "seen")
    assert [owner.post(path, mine).status_code for _ in range(2)] == [302, 302]
    runner.refresh_from_db()
    assert runner.pause_reason == "Kernel update" and runner.paused_until is not None


def hidden(text: str, name: str) -> str:
    (value,) = re.findall(rf'<input type="hidden" name="{name}" value="([^"]*)">', text)
    return str(value)


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
    assert "<dt>Removed</dt>" in owner.get(f"/runners/{runner.pk}/").text
    assert owner.get(f"/tasks/{running_task.pk}/").status_code == 200


def test_removing_the_last_runner_of_a_queue_says_who_stays_behind(
    owner: Client, runner: Runner, task: Task
) -> None:
    text = owner.get(f"/runners/{runner.pk}/remove/").content.decode()
    assert "1 queued task can be taken by no other runner" in text


@pytest.mark.parametrize("others", [0, 50])
def test_removing_one_of_many_runners_asks_the_database_no_more(
    others: int, owner: Client, cast: Cast, runner: Runner, task: Task
) -> None:
    """Of the others only what they offer counts, and what nobody takes is not its own."""
    rows = [Runner(project=cast.project, name=f"other-{n}") for n in range(others)]
    Runner.objects.bulk_create(rows)
    alone = TaskTemplate(project=cast.project, name="Alone", script="true")
    save_template(template=alone, tags=["nobody"])
    run_template(template=alone, by=cast.operator, now=timezone.now())
    with CaptureQueriesContext(connection) as queries:
        text = owner.get(f"/runners/{runner.pk}/remove/").text
    assert "1 queued task can be taken by no other runner" in text
    assert len(queries) < 25
    for row in rows[:1]:
        row.tags.set(runner.tags.all())
        text = owner.get(f"/runners/{runner.pk}/remove/").text
        assert "no other runner" not in text


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


def test_a_removed_runner_keeps_its_page_and_nothing_to_press(
    cast: Cast, runner: Runner, running_task: Task, browser: Callable[..., Client]
) -> None:
    owner = browser(cast.owner)
    page = f"/runners/{runner.pk}/"
    owner.post(f"{page}remove/")
    text = owner.get(page).text
    assert "Its tokens open nothing." in text and f"/tasks/{running_task.pk}/" in text
    assert "<dt>Removed</dt>" in text and "Removed" in text and "Fingerprint" not in text
    for action in ("pause", "drain", "change", "rotate", "remove", "end-older", "contact"):
        assert f"{page}{action}/" not in text
        assert owner.get(f"{page}{action}/").status_code == 404
    assert page in browser(cast.viewer).get(f"/tasks/{running_task.pk}/").text
    assert browser(cast.outsider).get(page).status_code == 404
    assert owner.get(f"/api/v1{page}").status_code == 404
