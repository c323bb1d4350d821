"""Every list and form of the admin opens, and none shows what must stay secret."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.apps import apps
from django.contrib import admin as site
from django.contrib.auth.models import Permission, User
from django.db import models
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from projects.audit.entry import AuditEntry
from projects.models import AccessKey, Project, SecretVariable, VariableGroup
from projects.operations import create_user_token
from runners.models import BrokerContact, Queue, RegistrationToken, Runner, RunnerToken, Tag
from tasks.lifecycle import TaskState
from tasks.log import append
from tasks.log_columns import LogOutline
from tasks.models import (
    Leadership,
    LogChunk,
    Task,
    TaskAttempt,
    TaskTemplate,
    TemplateAccessKey,
)
from tasks.operations import save_template
from tests.cast import CANARY, Cast

MODELS = [
    model
    for app in ("projects", "runners", "tasks")
    for model in apps.get_app_config(app).get_models()
]
READ_ONLY = (
    Task,
    LogChunk,
    LogOutline,
    Queue,
    Tag,
    RunnerToken,
    Leadership,
    BrokerContact,
    SecretVariable,
    TemplateAccessKey,
    AuditEntry,
    BrokerContact,
)


@pytest.fixture
def everything(
    cast: Cast,
    running_task: Task,
    registration: RegistrationToken,
    access_key: AccessKey,
    variable_group: VariableGroup,
) -> list[str]:
    """At least one row of each model; the answer is what no page may hold."""
    now = timezone.now()
    append(running_task, offset=0, data=b"hello", now=now)
    LogOutline.objects.create(task=running_task, attempt=1, offset=0, line=0, marks=[], masked=0)
    TaskAttempt.of(running_task, state=TaskState.LOST, reason="Gone.", ended_at=now).save()
    later = now + timedelta(minutes=1)
    Leadership.acquire("controller", holder="host-1", now=now, until=later)
    BrokerContact.note_loss(OSError("it does not answer"), now=now)
    new = create_user_token(user=cast.owner, name="ci", expires_at=None, now=now)
    runner = Runner.objects.get()
    template, sources = running_task.template, {access_key.pk: "KEY"}
    save_template(template=template, tags=["linux"], groups=[variable_group.pk], keys=sources)
    sealed = [access_key.secret.token, variable_group.secrets.get().secret.token, CANARY]
    digests = [new.row.digest, runner.tokens.get().digest, registration.digest]
    return [new.token, *digests, running_task.nonce, *sealed]


def address(model: type[models.Model], page: str, *args: object) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def test_every_model_is_registered() -> None:
    assert set(MODELS) <= site.site._registry.keys()


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_lists_and_forms_open_and_hold_no_secret(
    model: type[models.Model], everything: list[str], admin: Client
) -> None:
    row = model._default_manager.first()
    assert row is not None
    pages = [
        address(model, "changelist"),
        address(model, "changelist") + "?q=1",
        address(model, "change", row.pk),
        address(model, "history", row.pk),
    ]
    for page in pages:
        answer = admin.get(page)
        assert answer.status_code == 200, page
        assert not [secret for secret in everything if secret in answer.content.decode()]


@pytest.mark.parametrize(
    "question",
    [
        "runners/runnertoken/?digest__startswith={}",
        "runners/runner/?session__startswith={}",
        "runners/runner/?instance__startswith={}",
        "runners/registrationtoken/?digest__startswith={}",
        "tasks/task/?nonce__startswith={}",
        "projects/usertoken/?digest__startswith={}",
        "projects/accesskey/?secret__startswith={}",
        "auth/user/?password__startswith={}",
    ],
)
def test_nothing_unseen_can_be_guessed_letter_by_letter(
    question: str, superuser: User, everything: list[str]
) -> None:
    client = Client()
    client.force_login(superuser)
    answer = client.get(f"/admin/{question.format('a')}")
    # Django sends those who ask what is not allowed back with `?e=1`, or says 400.
    assert answer.status_code in (302, 400)
    assert answer.status_code == 400 or answer["Location"].endswith("?e=1")


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_a_list_takes_a_bounded_number_of_queries(
    model: type[models.Model],
    everything: list[str],
    admin: Client,
    django_assert_max_num_queries: object,
) -> None:
    with django_assert_max_num_queries(14):  # type: ignore[operator]
        admin.get(address(model, "changelist"))


@pytest.mark.parametrize("model", READ_ONLY, ids=lambda model: model.__name__)
def test_what_forge_writes_can_only_be_read(
    model: type[models.Model], everything: list[str], admin: Client
) -> None:
    row = model._default_manager.first()
    assert row is not None
    assert admin.get(address(model, "add")).status_code == 403
    assert admin.post(address(model, "change", row.pk), {}).status_code == 403
    assert admin.post(address(model, "delete", row.pk), {"post": "yes"}).status_code == 403
    action = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
    admin.post(address(model, "changelist"), action)
    assert model._default_manager.filter(pk=row.pk).exists()


def test_a_visitor_without_staff_rights_sees_nothing(cast: Cast) -> None:
    client = Client()
    client.force_login(cast.owner)
    assert client.get(address(Runner, "changelist")).status_code == 302


def test_staff_who_may_only_look_cannot_change(everything: list[str], cast: Cast) -> None:
    user = User.objects.create_user("looker", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client = Client()
    client.force_login(user)
    for model in MODELS:
        row = model._default_manager.first()
        assert row is not None
        assert client.get(address(model, "change", row.pk)).status_code == 200
        assert client.post(address(model, "change", row.pk), {}).status_code == 403


@pytest.mark.parametrize("model", [Runner, Task, TaskTemplate, Project])
def test_a_form_leads_to_the_page_of_what_it_changes(
    model: type[models.Model], cast: Cast, running_task: Task, admin: Client
) -> None:
    row = model._default_manager.get(**({"name": "Payments"} if model is Project else {}))
    name = "template" if model is TaskTemplate else model.__name__.lower()
    page = reverse(name, args=[row.pk])
    link = f'<a href="{page}" class="viewsitelink">Open its page</a>'
    assert link in admin.get(address(model, "change", row.pk)).text
    assert admin.get(page).status_code == 200
    # Who may look at all rows here may not be a member of their project.
    looker = User.objects.create_user("looker", is_staff=True)
    looker.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client = Client()
    client.force_login(looker)
    assert client.get(page).status_code == 404
    form = client.get(address(model, "change", row.pk))
    assert form.status_code == 200 and "Open its page" not in form.text


def test_a_removed_template_has_no_page_and_a_removed_runner_has(
    running_task: Task, admin: Client
) -> None:
    now = timezone.now()
    TaskTemplate.objects.update(removed_at=now)
    Runner.objects.update(removed_at=now)
    for model, has_page in ((TaskTemplate, False), (Runner, True)):
        row = model._default_manager.get()
        text = admin.get(address(model, "change", row.pk)).text
        assert ("Open its page" in text) == has_page, model


def test_a_task_that_has_not_ended_has_nothing_marked_as_wrong(
    running_task: Task, admin: Client
) -> None:
    page = address(Task, "change", running_task.pk)

    def told(field: str) -> str:
        found = re.search(rf'field-{field}".*?<div class="readonly">(.*?)</div>', text, re.DOTALL)
        assert found is not None, field
        return found[1].strip()

    text = admin.get(page).text
    assert "icon-no" not in text
    assert told("has_whole_log") == "-"
    assert told("runs_alone") == ("Yes" if running_task.is_exclusive else "No")
    ended = Task.objects.filter(pk=running_task.pk)
    ended.update(state=TaskState.FAILED, reason="It broke.", finished_at=timezone.now())
    text = admin.get(page).text
    assert told("has_whole_log") == '<span class="state" data-state="failed">No</span>'
    ended.update(log_complete=True)
    text = admin.get(page).text
    assert told("has_whole_log") == "Yes"
