"""The button of a new runner's first contact: a test task, with a template for each set of tags."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from projects.audit.entry import AuditEntry
from projects.models import Project
from runners.models import Runner
from runners.operations import create_runner, pause_runner
from tasks.lifecycle import TaskState
from tasks.models import Task, TaskTemplate
from tasks.operations import remove_template, retire_runner, save_template
from tasks.trial import SCRIPT, name_for
from tests.cast import Cast
from tests.meeting import meanwhile, once_read
from tests.writes import disabled

Browser = Callable[[User | None], Client]
TEMPLATES = 'FROM "tasks_tasktemplate"'


def added(project: Project, by: User, name: str, *tags: str) -> Runner:
    return create_runner(
        project=project, name=name, tags=tags, concurrency=1, takes_untagged=True, by=by,
        now=timezone.now(),
    ).runner  # fmt: skip


def clicked(client: Client, runner: Runner) -> Task:
    """The task whose page the button leads to."""
    answer = client.post(f"/runners/{runner.pk}/test/")
    found = re.fullmatch(r"/tasks/(\d+)/", answer["Location"])
    assert found, f"the button leads to {answer['Location']}"
    return Task.objects.get(pk=found[1])


def names() -> list[str]:
    return list(TaskTemplate.objects.present().values_list("name", flat=True))


def panel(client: Client, runner: Runner) -> str:
    """What the green panel offers."""
    now = timezone.now()
    Runner.objects.filter(pk=runner.pk).update(
        session="one", connected_at=now, last_heartbeat_at=now
    )
    text = client.get(f"/runners/{runner.pk}/contact/").text
    assert "is ready" in text
    return text


# --- what is offered, to whom ---


@pytest.mark.parametrize("who", ["owner", "manager"])
def test_whoever_may_make_templates_is_offered_a_test_task(
    who: str, cast: Cast, runner: Runner, browser: Browser
) -> None:
    text = panel(browser(cast.user(who)), runner)
    assert f'<form method="post" action="/runners/{runner.pk}/test/">' in text
    assert "Run a test task" in text and "Run a task<" not in text
    assert "Open runner" in text and "Add another" in text


def test_others_are_offered_what_they_may_do(cast: Cast, runner: Runner, browser: Browser) -> None:
    operators, viewers = (panel(browser(one), runner) for one in (cast.operator, cast.viewer))
    link = f'href="/projects/{cast.project.pk}/templates/"'
    assert link in operators and "Run a task<" in operators
    assert "Run a task<" not in viewers
    for text in (operators, viewers):
        assert "/test/" not in text and "Open runner" in text and "Add another" not in text


@pytest.mark.parametrize("who", ["operator", "viewer"])
def test_others_are_refused_and_make_nothing(
    who: str, cast: Cast, runner: Runner, browser: Browser
) -> None:
    answer = browser(cast.user(who)).post(f"/runners/{runner.pk}/test/")
    assert answer.status_code == 403
    assert f"Changing templates in Payments needs another role. Yours is {who}." in answer.text
    assert not TaskTemplate.objects.exists() and not Task.objects.exists()


def test_it_is_refused_without_a_csrf_token(cast: Cast, runner: Runner) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(cast.manager)
    assert client.post(f"/runners/{runner.pk}/test/").status_code == 403
    assert not Task.objects.exists()


# --- the template ---


def test_the_first_click_makes_a_template_that_wants_the_runners_tags_and_runs_it(
    cast: Cast, browser: Browser
) -> None:
    runner = added(cast.project, cast.owner, "rack-1", "linux", "gpu")
    task = clicked(browser(cast.manager), runner)
    assert task.template.name == "Test task (gpu, linux)"
    assert [tag.name for tag in task.template.tags.all()] == ["gpu", "linux"]
    assert (task.state, task.created_by, task.script) == (TaskState.QUEUED, cast.manager, SCRIPT)
    assert task.queue.required_tags == {"gpu", "linux"} and runner.may_take(task.queue)
    entries = AuditEntry.objects.filter(actor="manager", way="page").order_by("pk")
    assert [(entry.verb, entry.kind) for entry in entries] == [
        ("created", "template"), ("ran", "task"),
    ]  # fmt: skip


def test_runners_with_the_same_tags_share_it_and_others_have_their_own(
    cast: Cast, browser: Browser
) -> None:
    client = browser(cast.manager)
    made = {
        name: added(cast.project, cast.owner, name, *tags)
        for name, tags in {
            "a": ("gpu", "linux"),
            "b": ("linux", "gpu"),
            "c": ("gpu",),
            "d": (),
        }.items()
    }
    tasks = {name: clicked(client, runner) for name, runner in made.items()}
    assert tasks["a"].template == tasks["b"].template
    assert sorted(names()) == ["Test task", "Test task (gpu)", "Test task (gpu, linux)"]
    assert tasks["d"].template.name == "Test task" and made["d"].may_take(tasks["d"].queue)


def test_two_of_its_tasks_do_not_wait_for_one_another(
    cast: Cast, runner: Runner, browser: Browser
) -> None:
    client = browser(cast.manager)
    assert not any(clicked(client, runner).is_exclusive for _ in range(2))


def test_a_template_of_that_name_is_run_as_it_is(
    cast: Cast, runner: Runner, browser: Browser
) -> None:
    row = TaskTemplate(project=cast.project, name="test TASK (linux)", script="echo mine\n")
    save_template(template=row, tags=[])
    task = clicked(browser(cast.manager), runner)
    assert (task.template, task.script) == (row, "echo mine\n")
    row.refresh_from_db()
    assert row.script == "echo mine\n" and not row.tags.exists()


def test_another_projects_template_is_not_run(cast: Cast, runner: Runner, browser: Browser) -> None:
    row = TaskTemplate(project=cast.outsiders_project, name="Test task (linux)", script="true\n")
    save_template(template=row, tags=["linux"])
    assert clicked(browser(cast.manager), runner).template.project == cast.project


def test_one_that_was_removed_is_made_anew(cast: Cast, runner: Runner, browser: Browser) -> None:
    client = browser(cast.manager)
    first = clicked(client, runner).template
    remove_template(template=first, now=timezone.now())
    assert clicked(client, runner).template != first


def test_one_that_is_disabled_is_not_run_and_it_says_who_can_change_that(
    cast: Cast, runner: Runner, browser: Browser
) -> None:
    client = browser(cast.manager)
    disabled(clicked(client, runner).template, cast)
    answer = client.post(f"/runners/{runner.pk}/test/", follow=True)
    assert answer.status_code == 200
    assert (
        "The template Test task (linux) cannot be run: owner disabled it (Replaced). "
        "A manager of its project can enable it."
    ) in answer.text
    assert Task.objects.count() == 1 and names() == ["Test task (linux)"]


def test_names_stay_within_their_limit_and_tell_sets_of_tags_apart(
    cast: Cast, browser: Browser
) -> None:
    tags = [f"{letter}{'x' * 39}" for letter in "abcdefghij"]
    sets = [tags, tags[:9], [*tags[:9], "z" * 40], tags[:1], tags[:2]]
    found = [name_for(one) for one in sets]
    assert all(len(name) <= 80 for name in found) and len(set(found)) == len(sets)
    assert found[3] == f"Test task ({tags[0]})"
    assert re.fullmatch(rf"Test task \({tags[0]} and 9 more, [0-9a-f]{{8}}\)", found[0])
    task = clicked(browser(cast.manager), added(cast.project, cast.owner, "all-of-them", *tags))
    assert task.template.name == found[0] and task.template.tags.count() == len(tags)


# --- what happens meanwhile ---


def test_for_a_paused_runner_it_waits_as_any_run_does(
    cast: Cast, runner: Runner, browser: Browser
) -> None:
    now = timezone.now()
    pause_runner(runner=runner, reason="Update", until=None, by=cast.owner, now=now)
    client = browser(cast.manager)
    task = clicked(client, runner)
    assert task.state == TaskState.QUEUED
    assert "is paused by owner: Update" in re.sub(
        r"<[^>]+>", "", client.get(f"/tasks/{task.pk}/").text
    )


def test_of_a_removed_runner_nothing_is_found(cast: Cast, runner: Runner, browser: Browser) -> None:
    retire_runner(runner=runner, by=cast.owner, now=timezone.now())
    assert browser(cast.manager).post(f"/runners/{runner.pk}/test/").status_code == 404
    assert not Task.objects.exists()


def test_a_click_that_comes_between_anothers_look_and_its_template(
    cast: Cast, runner: Runner, browser: Browser
) -> None:
    owner, manager = browser(cast.owner), browser(cast.manager)
    between: list[Task] = []
    with once_read(TEMPLATES, lambda: between.append(clicked(owner, runner))):
        task = clicked(manager, runner)
    assert task.template == between[0].template and task != between[0]
    assert names() == ["Test task (linux)"]


@pytest.mark.django_db(transaction=True)
def test_two_clicks_at_once_make_one_template_and_two_tasks(
    cast: Cast, runner: Runner, browser: Browser
) -> None:
    owner, manager = browser(cast.owner), browser(cast.manager)
    second: list[Task] = []
    begin, thread = meanwhile(lambda: second.append(clicked(owner, runner)))
    with once_read('INSERT INTO "tasks_tasktemplate"', begin):
        first = clicked(manager, runner)
    thread.join()
    assert second and second[0] != first
    assert second[0].template == first.template
    assert names() == ["Test task (linux)"]


# --- what it prints ---

PROGRAMS = ("bash", "python3", "ansible-playbook", "terraform", "git")


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_any_posix_shell_says_what_an_operator_wants_to_know_first(
    shell: str, tmp_path: Path
) -> None:
    found = str(shutil.which(shell))
    path, home = tmp_path / "bin", tmp_path / "home"
    for folder in (path, home):
        folder.mkdir()
    for name in ("uname", "id", "date"):
        (path / name).symlink_to(str(shutil.which(name)))
    for name in ("git", "python3"):
        (path / name).touch(mode=0o755)
    done = subprocess.run(
        [found, "-c", SCRIPT],
        env={"PATH": str(path), "FORGE_RUNNER": "web-1"},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    said = {line[:16].rstrip(): line[18:] for line in done.stdout.splitlines()}
    uname = os.uname()
    assert list(said) == ["Runner", "Host", "User", "Folder", "System", "Date", *PROGRAMS]
    assert (said["Runner"], said["Host"]) == ("web-1", uname.nodename)
    assert said["System"] == f"{uname.sysname} {uname.release} {uname.machine}"
    assert said["User"] and re.match(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d ", said["Date"])
    assert said["Folder"] == str(home)
    assert {name for name in PROGRAMS if said[name] == str(path / name)} == {"git", "python3"}
    assert said["terraform"] == said["ansible-playbook"] == "not on the PATH"
    assert not done.stderr and not list(home.iterdir())
