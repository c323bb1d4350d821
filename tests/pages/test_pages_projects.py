"""The first page and the overview."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from projects.models import Project
from projects.operations import create_project
from projects.permissions import Role
from runners.models import Runner
from tasks.lifecycle import TaskState
from tasks.models import Task, TaskTemplate
from tasks.operations import run_template
from tests.cast import Cast


def text_of(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


def test_only_the_users_own_projects_are_listed(cast: Cast, browser: Callable[..., Client]) -> None:
    text = text_of(browser(cast.outsider), "/")
    assert "Elsewhere" in text
    assert "Payments" not in text
    assert "1 project. 0 tasks run now, 0 wait." in text


def test_a_superuser_sees_every_project(
    cast: Cast, superuser: User, browser: Callable[..., Client]
) -> None:
    text = text_of(browser(superuser), "/")
    assert "Elsewhere" in text
    assert "Payments" in text
    assert 'href="/admin/"' in text


def test_who_creates_a_project_owns_it(cast: Cast, browser: Callable[..., Client]) -> None:
    answer = browser(cast.viewer).post("/", {"name": "Billing", "description": "Invoices"})
    project = Project.objects.get(name="Billing")
    assert answer["Location"] == f"/projects/{project.pk}/"
    assert project.role_of(cast.viewer) == Role.OWNER


def test_a_manager_renames_a_project_and_limits_it(
    cast: Cast, browser: Callable[..., Client]
) -> None:
    address = f"/projects/{cast.project.pk}/settings/"
    manager = browser(cast.manager)
    assert 'value="Payments"' in text_of(manager, address)
    answer = manager.post(
        address, {"name": "Billing", "description": "Invoices", "max_parallel_tasks": "3"}
    )
    assert answer["Location"] == address
    cast.project.refresh_from_db()
    found = cast.project
    assert (found.name, found.description, found.max_parallel_tasks) == ("Billing", "Invoices", 3)
    assert "Saved the settings of Billing." in text_of(manager, address)
    links = text_of(browser(cast.viewer), f"/projects/{cast.project.pk}/")
    assert address not in links and address in text_of(manager, f"/projects/{cast.project.pk}/")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"name": "elsewhere"}, "There is already a project called Elsewhere."),
        ({"name": "two\nlines"}, "one line"),
        ({"max_parallel_tasks": "-1"}, "Enter a whole number from 0 to "),
        ({"max_parallel_tasks": "9" * 30}, "to 10,000."),
        ({"max_parallel_tasks": "many"}, "Enter a whole number from 0 to 10,000."),
    ],
)
def test_settings_that_cannot_be_are_refused_at_their_field_and_change_nothing(
    wrong: dict[str, str], sentence: str, cast: Cast, browser: Callable[..., Client]
) -> None:
    typed = {"name": "Billing", "description": "Invoices", "max_parallel_tasks": "3"} | wrong
    answer = browser(cast.owner).post(f"/projects/{cast.project.pk}/settings/", typed)
    assert answer.status_code == 400
    assert sentence in answer.text and 'value="Invoices"' in answer.text
    assert "<title>Settings" in answer.text and "Payments" in answer.text
    cast.project.refresh_from_db()
    assert (cast.project.name, cast.project.max_parallel_tasks) == ("Payments", 0)


def test_a_name_that_is_taken_is_refused_and_what_was_typed_stays(
    cast: Cast, browser: Callable[..., Client]
) -> None:
    answer = browser(cast.owner).post("/", {"name": "payments", "description": "Second one"})
    text = answer.content.decode()
    assert answer.status_code == 400
    assert "There is already a project called Payments. Choose another name." in text
    assert 'value="Second one"' in text


def test_an_empty_project_says_what_to_do_first(cast: Cast, browser: Callable[..., Client]) -> None:
    text = text_of(browser(cast.owner), f"/projects/{cast.project.pk}/")
    assert "this project has no template yet" in text
    assert "No runners yet" in text


def test_the_overview_counts_and_names_the_runner_in_trouble(
    cast: Cast, running_task: Task, runner: Runner, browser: Callable[..., Client]
) -> None:
    Runner.objects.update(created_at=timezone.now() - timedelta(hours=2))
    text = text_of(browser(cast.viewer), f"/projects/{cast.project.pk}/")
    assert "1 task runs now, none waits. No runner is online." in text
    assert "Never contacted" in text
    assert "web-1" in text
    assert "1 under way" in text


def test_the_navigation_counts_what_runners_hold_in_words_that_hold_for_all_of_it(
    cast: Cast, template: TaskTemplate, runner: Runner, browser: Callable[..., Client]
) -> None:
    TaskTemplate.objects.filter(pk=template.pk).update(allow_parallel=True)
    template.refresh_from_db()
    now = timezone.now()
    for state in ("queued", "starting", "running", "stopping", "unreachable"):
        row = run_template(template=template, by=cast.operator, now=now)
        if state == "queued":
            continue
        assert row.claim(runner=runner, attempt=1, nonce=f"{row.pk:022}", now=now)
        moments = {"stop_requested_at": now, "unreachable_at": now, "wait_ends_at": now}
        Task.objects.filter(pk=row.pk).update(state=state, **moments)
    path = f"/projects/{cast.project.pk}/tasks/"
    for address in (path, f"{path}?part=rows"):
        text = text_of(browser(cast.viewer), address)
        assert "1 queued, 1 starting, 1 running, 1 stopping, 1 unreachable." in text
        assert re.search(r'id="nav-running"[^>]*>4 under way<', text)


def test_what_nobody_can_reach_is_not_said_to_run(
    cast: Cast, running_task: Task, runner: Runner, browser: Callable[..., Client]
) -> None:
    later = run_template(template=running_task.template, by=cast.operator, now=timezone.now())
    moments = {"unreachable_at": timezone.now(), "wait_ends_at": timezone.now()}
    Task.objects.filter(pk=running_task.pk).update(state="unreachable", **moments)
    viewer, overview = browser(cast.viewer), f"/projects/{cast.project.pk}/"
    said = "1 project. 0 tasks run now, 1 is out of reach, 1 waits."
    assert said in text_of(viewer, "/") and said in text_of(viewer, "/?part=live")
    assert "No task runs now, 1 is out of reach, 1 waits." in text_of(viewer, overview)
    Task.objects.filter(pk=later.pk).update(is_exclusive=False)
    assert later.claim(runner=runner, attempt=1, nonce="m" * 22, now=timezone.now())
    assert "1 project. 1 task runs now, 1 is out of reach, 0 wait." in text_of(viewer, "/")
    assert "1 task runs now, 1 is out of reach, none waits." in text_of(viewer, overview)


def test_the_overview_names_what_waits_for_long(
    cast: Cast, task: Task, browser: Callable[..., Client]
) -> None:
    viewer, address = browser(cast.viewer), f"/projects/{cast.project.pk}/"
    text = text_of(viewer, address)
    assert "No task runs now, 1 waits." in text and "has waited for" not in text
    Task.objects.update(queued_at=timezone.now() - timedelta(minutes=12))
    link = f'<a class="link" id="waits-long" href="/tasks/{task.pk}/">#{task.pk}</a>'
    assert f"{link} has waited for 12 min" in text_of(viewer, address)


def test_the_figures_come_from_finished_tasks(
    cast: Cast, running_task: Task, runner: Runner, browser: Callable[..., Client]
) -> None:
    running_task.refresh_from_db()
    assert running_task.started_at is not None
    end = running_task.started_at + timedelta(seconds=90)
    finish = running_task.finish
    assert finish(TaskState.SUCCEEDED, runner=runner, attempt=1, now=end, reason="It ended.")
    text = text_of(browser(cast.viewer), f"/projects/{cast.project.pk}/")
    assert "100 %" in text
    assert "1 min 30 s" in text


def test_the_first_page_shows_what_runs_and_who_is_in_trouble_in_all_projects(
    cast: Cast, running_task: Task, runner: Runner, browser: Callable[..., Client]
) -> None:
    Runner.objects.update(created_at=timezone.now() - timedelta(hours=1))
    text = text_of(browser(cast.viewer), "/")
    assert f'href="/tasks/{running_task.pk}/">Restart</a>' in text
    assert "<b>web-1</b> in" in text and "Never contacted" in text
    assert "Nothing failed." in text
    others = text_of(browser(cast.outsider), "/")
    assert "Nothing runs now." in others
    assert "Restart" not in others and "web-1" not in others


def test_the_first_page_shows_what_failed_for_a_day(
    cast: Cast, running_task: Task, runner: Runner, browser: Callable[..., Client]
) -> None:
    now = timezone.now()
    finish = running_task.finish
    assert finish(TaskState.FAILED, runner=runner, attempt=1, now=now, reason="Disk full.")
    text = text_of(browser(cast.viewer), "/")
    assert "Payments: disk full." in text
    Task.objects.update(finished_at=now - timedelta(hours=25))
    assert "Nothing failed." in text_of(browser(cast.viewer), "/")


def test_the_first_page_counts_what_else_failed_and_leads_there(
    cast: Cast, running_task: Task, runner: Runner, browser: Callable[..., Client]
) -> None:
    """The latest of each project alone would hide all others of the day."""
    now, viewer = timezone.now(), browser(cast.viewer)
    finish = running_task.finish
    assert finish(TaskState.FAILED, runner=runner, attempt=1, now=now, reason="Disk full.")
    assert " failed<" not in text_of(viewer, "/")
    failed = _copy(Task.objects.get(pk=running_task.pk), cast.project)
    Task.objects.update(created_at=now - timedelta(hours=25))
    for _ in range(7):
        Task.objects.create(**failed)
    text = text_of(viewer, "/")
    found = re.search(r'href="([^"]+)">7 failed<', text)
    assert found, text
    assert text_of(viewer, found[1].replace("&amp;", "&")).count('id="task-') == 7


def test_the_first_page_takes_a_bounded_number_of_queries(
    cast: Cast,
    running_task: Task,
    runner: Runner,
    browser: Callable[..., Client],
    django_assert_max_num_queries: Any,
) -> None:
    """However many projects, tasks and runners there are."""
    client, now = browser(cast.owner), timezone.now()
    for number in range(12):
        project = create_project(name=f"P{number}", description="", owner=cast.owner, now=now)
        Task.objects.create(**_copy(running_task, project))
        Runner.objects.create(project=project, name="silent", created_by=cast.owner)
    Runner.objects.update(created_at=now - timedelta(hours=1))
    with django_assert_max_num_queries(20):
        text = text_of(client, "/")
    assert ">All 13<" in text
    assert text.count("It ended.".lower()) == 8


def _copy(task: Task, project: Project) -> dict[str, Any]:
    names = [field.attname for field in Task._meta.concrete_fields if not field.primary_key]
    values = {name: getattr(task, name) for name in names}
    failed = {"state": TaskState.FAILED, "reason": "It ended.", "finished_at": timezone.now()}
    return values | failed | {"project_id": project.pk}


def test_a_live_part_is_a_fragment(cast: Cast, browser: Callable[..., Client]) -> None:
    for page in ("", "tasks/", "runners/", "templates/"):
        text = text_of(browser(cast.viewer), f"/projects/{cast.project.pk}/{page}?part=live")
        assert "<html" not in text
        assert 'id="nav-running" hx-swap-oob="true"' in text


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "{{ 7 }}", "Ünïcode 日本"])
def test_names_are_shown_as_they_are(name: str, cast: Cast, browser: Callable[..., Client]) -> None:
    from django.utils.html import escape

    Project.objects.filter(pk=cast.project.pk).update(name=name)
    text = text_of(browser(cast.owner), f"/projects/{cast.project.pk}/")
    assert f"<h1>{escape(name)}</h1>" in text
