"""Before the admin deletes, it says what goes and leads to; its times are as on the pages."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from projects.models import AccessKey
from runners.models import Runner
from tasks.models import Task, TaskTemplate
from tests.cast import Cast

DJANGOS = ("Are you sure", "take me back", "I’m sure", "Delete multiple objects")


def test_one_is_deleted_after_what_it_leads_to_was_said(
    admin: Client, runner: Runner, running_task: Task
) -> None:
    address = f"/admin/runners/runner/{runner.pk}/delete/"
    text = admin.get(address).text
    assert "<h1>Delete runner web-1?</h1>" in text
    assert "open nothing any more" in text and "It cannot be undone." in text
    assert "1 of its tasks ends with it" in text
    assert not [words for words in DJANGOS if words in text]
    assert admin.post(address, {"post": "yes"}).status_code == 302
    runner.refresh_from_db()
    assert runner.removed_at is not None


def test_several_are_deleted_from_the_list(admin: Client, template: TaskTemplate) -> None:
    given = {"action": "delete_selected", "_selected_action": [template.pk]}
    text = admin.post("/admin/tasks/tasktemplate/", given).text
    assert "<h1>Delete 1 task template?</h1>" in text
    assert "Its tasks, their logs and its history stay." in text
    assert not [words for words in DJANGOS if words in text]
    assert admin.post("/admin/tasks/tasktemplate/", given | {"post": "yes"}).status_code == 302
    assert not TaskTemplate.objects.present().exists()


def test_an_account_is_listed_with_what_goes_along(admin: Client, cast: Cast) -> None:
    text = admin.get(f"/admin/auth/user/{cast.viewer.pk}/delete/").text
    assert "Delete user viewer?" in text and "signs in no more" in text
    assert "How many go" in text and "Memberships: 1" in text


@pytest.mark.parametrize("place", ["runners/runner", "tasks/task", "projects/accesskey"])
def test_times_are_written_as_on_the_pages(
    place: str, admin: Client, runner: Runner, task: Task, access_key: AccessKey
) -> None:
    at = datetime(2026, 11, 26, 15, 4, 5, tzinfo=ZoneInfo("UTC"))
    Runner.objects.update(last_heartbeat_at=at, created_at=at)
    Task.objects.update(created_at=at)
    AccessKey.objects.update(created_at=at, secret_changed_at=at)
    text = admin.get(f"/admin/{place}/").text
    written = f"{timezone.localtime(at):%Y-%m-%d %H:%M:%S}"
    assert written in text
    assert "p.m." not in text and "3:04" not in text.replace(written, "")


def test_it_is_said_when_it_is_ones_own_account(admin: Client, superuser: User, cast: Cast) -> None:
    one = "/admin/auth/user/{}/delete/"
    assert "This is your own account" in admin.get(one.format(superuser.pk)).text
    assert "your own account" not in admin.get(one.format(cast.viewer.pk)).text.lower()
    chosen = {"action": "delete_selected", "_selected_action": [superuser.pk, cast.viewer.pk]}
    assert "Your own account is among them" in admin.post("/admin/auth/user/", chosen).text
    chosen["_selected_action"] = [cast.viewer.pk, cast.manager.pk]
    assert "own account" not in admin.post("/admin/auth/user/", chosen).text
