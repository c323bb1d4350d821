"""What people and runners wrote is shown on pages as text, every character of it visible."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client
from django.utils import timezone

from runners.models import Runner
from tasks.log import append
from tasks.models import Task, TaskTemplate
from tests.api.conftest import Api
from tests.cast import Cast

MARKUP = '"><img src=x onerror=alert(1)><script>alert(2)</script>'
TROJAN = "if user == 'admin\u202e \u2066# check\u2069\u2066':\x1b[8m\n\techo hi\r\n"


@pytest.fixture
def hostile(cast: Cast, template: TaskTemplate) -> TaskTemplate:
    template.script = TROJAN + MARKUP
    template.environment = {"TARGET": "prod\u200b\u202e" + MARKUP}
    template.save()
    return template


def test_a_script_shows_what_nobody_would_see(
    cast: Cast, hostile: TaskTemplate, browser: Callable[..., Client]
) -> None:
    for who in (cast.viewer, cast.manager):
        text = browser(who).get(f"/templates/{hostile.pk}/").text
        assert "<img src=x" not in text and "<script>alert" not in text
    read = browser(cast.viewer).get(f"/templates/{hostile.pk}/").text
    assert '<span class="hid">U+202E</span>' in read and '<span class="hid">U+200B</span>' in read
    assert not {"\u202e", "\u2066", "\x1b", "\u200b"} & set(read)
    form = browser(cast.manager).get(f"/templates/{hostile.pk}/").text
    assert "5 characters that nobody sees, first on line 1 (U+202E)" in form


def test_a_task_shows_the_script_that_it_ran_likewise(
    cast: Cast, hostile: TaskTemplate, browser: Callable[..., Client]
) -> None:
    from tasks.operations import run_template

    task = run_template(template=hostile, by=cast.operator, now=timezone.now())
    text = browser(cast.viewer).get(f"/tasks/{task.pk}/").text
    assert '<span class="hid">U+202E</span>' in text and "<img src=x" not in text
    assert not {"\u202e", "\x1b", "\u200b"} & set(text)


@pytest.mark.parametrize("who", ["page", "api"])
def test_a_log_is_never_taken_for_anything_but_text(
    who: str, cast: Cast, running_task: Task, browser: Callable[..., Client]
) -> None:
    html = b"<!doctype html><script>alert(1)</script>"
    append(running_task, offset=0, data=html, now=timezone.now())
    if who == "api":
        answer = Api(cast.viewer).get(f"tasks/{running_task.pk}/log")
    else:
        answer = browser(cast.viewer).get(f"/tasks/{running_task.pk}/log")
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Disposition"] == f'attachment; filename="task-{running_task.pk}.log"'
    assert answer["Content-Security-Policy"] == "default-src 'none'; sandbox"


def test_what_a_runner_says_of_its_host_is_shown_as_text(
    cast: Cast, runner: Runner, browser: Callable[..., Client]
) -> None:
    Runner.objects.update(host_name=MARKUP, system=MARKUP[:120], version="<b>1</b>")
    for address in (f"/runners/{runner.pk}/", f"/projects/{cast.project.pk}/runners/"):
        text = browser(cast.viewer).get(address).text
        assert "<img src=x" not in text and "<b>1</b>" not in text


def test_what_a_runner_says_of_its_trouble_is_shown_as_text(
    cast: Cast, runner: Runner, task: Task, browser: Callable[..., Client]
) -> None:
    now = timezone.now()
    Runner.objects.update(session="s", last_heartbeat_at=now, trouble=MARKUP[:200])
    project = f"/projects/{cast.project.pk}"
    places = (f"/runners/{runner.pk}/", f"{project}/runners/", f"{project}/", f"/tasks/{task.pk}/")
    for address in (*places, "/runners/", "/"):
        text = browser(cast.viewer).get(address).text
        assert "&lt;img src=x" in text and "<img src=x" not in text, address
