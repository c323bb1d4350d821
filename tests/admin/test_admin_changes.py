"""What the admin changes goes through the same operations as everything else."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from projects.audit.entry import AuditEntry
from projects.models import Project, UserToken
from projects.permissions import Role
from projects.tokens import digest_of
from runners.models import RegistrationToken, Runner
from tasks.lifecycle import TaskState
from tasks.models import Task, TaskTemplate
from tests.admin.conftest import refusal
from tests.cast import Cast


def new_runner(cast: Cast, **changes: object) -> dict[str, Any]:
    given = {"project": cast.project.pk, "name": "db-1", "tag_names": "linux, gpu"}
    return {**given, "concurrency": 2, "takes_untagged": "on", **changes}


def token_on(page: str) -> str:
    found = re.search(r'<pre id="token"[^>]*>(fg._[\w-]+)</pre>', page)
    assert found
    return found[1]


def test_a_new_runner_shows_its_token_once_with_the_command(cast: Cast, admin: Client) -> None:
    answer = admin.post(reverse("admin:runners_runner_add"), new_runner(cast))
    page = answer.content.decode()
    token = token_on(page)
    runner = Runner.objects.get(name="db-1")
    assert runner.tokens.get().digest == digest_of(token)
    assert [tag.name for tag in runner.tags.all()] == ["gpu", "linux"]
    assert runner.created_by is not None
    assert "umask 077" in page and f"{token}\nEND" in page
    assert "celery -A runners.worker worker" in page
    assert "no-store" in answer["Cache-Control"]
    assert token not in str(dict(admin.session)) + str(admin.cookies)
    for name in ("changelist", "change", "history"):
        args = [] if name == "changelist" else [runner.pk]
        assert token not in admin.get(reverse(f"admin:runners_runner_{name}", args=args)).text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "web-1"),
        ("name", "Not A Name"),
        ("tag_names", "Bad!"),
        ("tag_names", " ".join(f"t{number}" for number in range(11))),
        ("concurrency", 0),
    ],
)
def test_a_runner_that_cannot_be_is_refused_at_its_field(
    field: str, value: object, cast: Cast, runner: Runner, admin: Client
) -> None:
    answer = admin.post(reverse("admin:runners_runner_add"), new_runner(cast, **{field: value}))
    assert answer.status_code == 200
    assert field in answer.context["adminform"].errors
    assert Runner.objects.count() == 1


def test_a_name_taken_in_the_last_moment_is_a_sentence(
    cast: Cast, runner: Runner, admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runners.admin.NewRunnerForm.clean", lambda form: form.cleaned_data)
    answer = admin.post(reverse("admin:runners_runner_add"), new_runner(cast, name="web-1"))
    assert "already has a runner called web-1" in refusal(answer)
    assert 'value="linux, gpu"' in answer.text


def test_of_a_runner_changes_what_it_takes_and_nothing_else(
    cast: Cast, runner: Runner, admin: Client
) -> None:
    heard = timezone.now()
    Runner.objects.filter(pk=runner.pk).update(last_heartbeat_at=heard)
    given = new_runner(cast, concurrency=7, name="other", project=cast.outsiders_project.pk)
    given |= {"tag_names": "gpu linux"}
    del given["takes_untagged"]
    change = reverse("admin:runners_runner_change", args=[runner.pk])
    assert 'name="tag_names" value="linux"' in admin.get(change).text
    admin.post(change, given)
    now = Runner.objects.get(pk=runner.pk)
    assert (now.concurrency, now.name, now.project) == (7, "web-1", cast.project)
    assert {tag.name for tag in now.tags.all()} == {"gpu", "linux"} and not now.takes_untagged
    assert now.last_heartbeat_at == heard
    (entry,) = AuditEntry.objects.filter(way="admin")
    assert set(entry.changes) == {"concurrency", "tags", "takes_untagged"}
    assert "Use lower-case" in admin.post(change, given | {"tag_names": "A!"}).text


@pytest.mark.parametrize(
    "place",
    ["runners/runner", "runners/registrationtoken", "projects/accesskey", "projects/variablegroup",
     "projects/usertoken", "projects/membership", "tasks/tasktemplate"],
)  # fmt: skip
@pytest.mark.parametrize("sent", ["x", "1' OR 1=1", "9" * 30, "\0"])
def test_what_is_no_number_is_refused_at_its_field(sent: str, place: str, admin: Client) -> None:
    answer = admin.post(f"/admin/{place}/add/", {"project": sent, "user": sent})
    assert answer.status_code == 200
    assert "Please correct the errors below" in answer.text


@pytest.mark.parametrize("way", ["page", "action"])
def test_removing_a_runner_ends_its_tasks_and_keeps_its_history(
    way: str, runner: Runner, running_task: Task, admin: Client
) -> None:
    if way == "page":
        page = reverse("admin:runners_runner_delete", args=[runner.pk])
        data: dict[str, Any] = {"post": "yes"}
    else:
        page = reverse("admin:runners_runner_changelist")
        data = {"action": "delete_selected", "_selected_action": [runner.pk], "post": "yes"}
    assert admin.get(page).status_code == 200
    assert admin.post(page, data).status_code == 302
    runner.refresh_from_db()
    running_task.refresh_from_db()
    assert runner.removed_at is not None
    assert running_task.state == "failed"
    change = reverse("admin:runners_runner_change", args=[runner.pk])
    assert admin.get(change).status_code == 200
    assert admin.post(change, {"concurrency": 9}).status_code == 403


def template_form(template: TaskTemplate, **changes: object) -> dict[str, Any]:
    given = {
        "project": template.project_id,
        "name": template.name,
        "app": "bash",
        "script": "  one\r\ntwo\r\n",
        "timeout_seconds": 5,
        "environment": '{"A": "b"}',
        "tag_names": "gpu",
    }
    return {**given, **changes}


def test_a_template_is_saved_with_its_tags_and_queue(template: TaskTemplate, admin: Client) -> None:
    page = reverse("admin:tasks_tasktemplate_change", args=[template.pk])
    assert 'value="linux"' in admin.get(page).content.decode()
    assert admin.post(page, template_form(template)).status_code == 302
    now = TaskTemplate.objects.get(pk=template.pk)
    assert (now.script, now.queue.name) == ("  one\ntwo\n", "tasks.gpu")
    assert [tag.name for tag in now.tags.all()] == ["gpu"]


def test_a_new_template_needs_a_name_of_its_own(template: TaskTemplate, admin: Client) -> None:
    page = reverse("admin:tasks_tasktemplate_add")
    answer = admin.post(page, template_form(template, name="RESTART"))
    assert "name" in answer.context["adminform"].errors
    assert admin.post(page, template_form(template, name="New")).status_code == 302
    assert TaskTemplate.objects.get(name="New").queue.name == "tasks.gpu"


def test_removing_a_template_keeps_its_tasks(task: Task, admin: Client) -> None:
    page = reverse("admin:tasks_tasktemplate_delete", args=[task.template_id])
    assert admin.post(page, {"post": "yes"}).status_code == 302
    task.refresh_from_db()
    assert task.template.removed_at is not None
    page = reverse("admin:tasks_tasktemplate_change", args=[task.template_id])
    assert admin.get(page).status_code == 200
    assert admin.post(page, template_form(task.template)).status_code == 403


def test_a_user_token_is_shown_once(cast: Cast, admin: Client) -> None:
    given = {"user": cast.viewer.pk, "name": "ci", "expires_at_0": "", "expires_at_1": ""}
    answer = admin.post(reverse("admin:projects_usertoken_add"), given)
    token = token_on(answer.content.decode())
    row = UserToken.objects.get(digest=digest_of(token))
    assert (row.user, row.name) == (cast.viewer, "ci")
    page = reverse("admin:projects_usertoken_change", args=[row.pk])
    assert token not in admin.get(page).content.decode()
    admin.post(page, {**given, "name": "nightly", "user": cast.owner.pk})
    row.refresh_from_db()
    assert (row.user, row.name, row.digest) == (cast.viewer, "nightly", digest_of(token))


def test_staff_make_tokens_for_themselves_only(superuser: User) -> None:
    user = User.objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__endswith="_usertoken"))
    client = Client()
    client.force_login(user)
    given = {"user": superuser.pk, "name": "mine", "expires_at_0": "", "expires_at_1": ""}
    answer = client.post(reverse("admin:projects_usertoken_add"), given)
    assert UserToken.objects.get(digest=digest_of(token_on(answer.text))).user == user


def test_who_creates_a_project_in_the_admin_owns_it(superuser: User, admin: Client) -> None:
    page = reverse("admin:projects_project_add")
    assert admin.post(page, {"name": "New", "description": ""}).status_code == 302
    project = Project.objects.get(name="New")
    assert project.memberships.get(user=superuser).role == Role.OWNER
    assert admin.get(reverse("admin:projects_project_delete", args=[project.pk])).status_code == 403


def test_a_rotation_in_the_admin_asks_for_the_overlap_and_shows_the_token_once(
    runner: Runner, admin: Client
) -> None:
    page = reverse("admin:runners_runner_changelist")
    given: dict[str, Any] = {"action": "rotate", "_selected_action": [runner.pk]}
    asked = admin.post(page, given)
    assert "How long do the tokens until now go on working?" in asked.text
    assert runner.tokens.count() == 1
    answer = admin.post(page, {**given, "sure": "yes", "overlap": "600"})
    token = token_on(answer.text)
    assert "no-store" in answer["Cache-Control"]
    assert runner.tokens.get(expires_at=None).digest == digest_of(token)
    assert "Older tokens go on working for 10 minutes." in answer.text
    assert token not in str(dict(admin.session)) + str(admin.cookies)
    for name in ("runner", "runnertoken"):
        assert token not in admin.get(reverse(f"admin:runners_{name}_changelist")).text


def test_a_rotation_in_the_admin_is_of_one_runner_that_is_there(
    cast: Cast, runner: Runner, admin: Client
) -> None:
    admin.post(reverse("admin:runners_runner_add"), new_runner(cast))
    both = list(Runner.objects.values_list("pk", flat=True))
    page = reverse("admin:runners_runner_changelist")
    given = {"action": "rotate", "_selected_action": both, "sure": "yes", "overlap": "0"}
    answer = admin.post(page, given)
    (message,) = list(get_messages(answer.wsgi_request))[-1:]
    assert "Select one runner" in str(message)
    assert [row.tokens.count() for row in Runner.objects.all()] == [1, 1]


def registration_form(cast: Cast) -> dict[str, Any]:
    tomorrow = timezone.now() + timedelta(days=1)
    return {
        "project": cast.project.pk,
        "name": "rack 7",
        "tag_names": "linux, gpu",
        "concurrency": 2,
        "max_uses": 5,
        "expires_at_0": f"{tomorrow:%Y-%m-%d}",
        "expires_at_1": "12:00:00",
    }


def test_a_registration_token_is_shown_once_with_the_command(cast: Cast, admin: Client) -> None:
    page = reverse("admin:runners_registrationtoken_add")
    answer = admin.post(page, registration_form(cast))
    token = token_on(answer.text)
    row = RegistrationToken.objects.get(digest=digest_of(token))
    assert (row.max_uses, [tag.name for tag in row.tags.all()]) == (5, ["gpu", "linux"])
    assert "forge-runner register" in answer.text
    change = reverse("admin:runners_registrationtoken_change", args=[row.pk])
    assert token not in admin.get(change).text
    admin.post(change, {**registration_form(cast), "max_uses": 900})
    row.refresh_from_db()
    assert row.max_uses == 5


def test_a_registration_token_with_an_impossible_end_is_a_sentence(
    cast: Cast, admin: Client
) -> None:
    given = registration_form(cast) | {"expires_at_0": "2020-01-01"}
    answer = admin.post(reverse("admin:runners_registrationtoken_add"), given)
    assert "within 365 days" in refusal(answer, "expires_at")
    assert not RegistrationToken.objects.exists()


@pytest.mark.parametrize("way", ["page", "action"])
def test_deleting_a_registration_token_revokes_it(
    way: str, registration: RegistrationToken, admin: Client
) -> None:
    if way == "page":
        page = reverse("admin:runners_registrationtoken_delete", args=[registration.pk])
        data: dict[str, Any] = {"post": "yes"}
    else:
        page = reverse("admin:runners_registrationtoken_changelist")
        data = {"action": "revoke", "_selected_action": [registration.pk], "sure": "yes"}
    assert admin.post(page, data).status_code == 302
    registration.refresh_from_db()
    assert registration.revoked_at is not None


@pytest.mark.parametrize("action", ["stop", "force_stop"])
def test_tasks_are_stopped_in_the_admin_as_elsewhere(
    action: str, running_task: Task, admin: Client
) -> None:
    page = reverse("admin:tasks_task_changelist")
    given = {"action": action, "_selected_action": [running_task.pk]}
    admin.post(page, given)
    running_task.refresh_from_db()
    assert running_task.state == TaskState.RUNNING, "it asks first"
    answer = admin.post(page, given | {"sure": "yes"}, follow=True)
    assert "Told to stop: 1." in answer.content.decode()
    running_task.refresh_from_db()
    assert running_task.state == TaskState.STOPPING
    assert bool(running_task.force_requested_at) == (action == "force_stop")
