"""What is changed in the admin is in the audit log, model by model, and the log only to read."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin as site
from django.contrib.auth.models import Group, User
from django.contrib.messages import get_messages
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone

from projects.audit.entry import AuditEntry
from projects.models import AccessKey, Membership, Project, UserToken, VariableGroup
from projects.operations import create_user_token
from runners.models import RegistrationToken, Runner
from tasks.models import TaskTemplate
from tests.admin.conftest import refusal
from tests.cast import CANARY, Cast
from tests.writes import assert_nothing_secret, one_entry

INLINE = {
    "memberships-TOTAL_FORMS": 0,
    "memberships-INITIAL_FORMS": 0,
}


def forms(cast: Cast) -> dict[type[Any], dict[str, Any]]:
    """By model that may be added: what a form says."""
    tomorrow = timezone.now() + timedelta(days=1)
    project = cast.project.pk
    ends = {"expires_at_0": f"{tomorrow:%Y-%m-%d}", "expires_at_1": "12:00:00"}
    runner = {"project": project, "concurrency": 3, "takes_untagged": "on"}
    return {
        Project: {"name": "New", "description": "Other", "max_parallel_tasks": 3, **INLINE},
        Membership: {"project": project, "user": cast.outsider.pk, "role": "operator"},
        UserToken: {"name": "New", "user": cast.owner.pk, **ends},
        AccessKey: {"project": project, "name": "New", "kind": "string", "value": CANARY},
        VariableGroup: {"project": project, "name": "New", "variables": "{}", "description": "x"},
        Runner: {"name": "new-1", **runner},
        RegistrationToken: {"name": "New", "max_uses": 2, **runner, **ends},
        TaskTemplate: {
            "project": project, "name": "New", "app": "bash", "script": "other",
            "timeout_seconds": 5, "environment": "{}",
        },
        User: {"username": "new", "password1": "long enough 7", "password2": "long enough 7",
               "usable_password": "true"},
        Group: {"name": "New"},
    }  # fmt: skip


@pytest.fixture
def everything(
    cast: Cast,
    template: TaskTemplate,
    runner: Runner,
    registration: RegistrationToken,
    access_key: AccessKey,
    variable_group: VariableGroup,
) -> dict[type[Any], Any]:
    """One row of each model that can be changed, which nothing else needs."""
    now = timezone.now()
    token = create_user_token(user=cast.owner, name="ci", expires_at=None, now=now).row
    return {
        Project: cast.project,
        Membership: cast.viewers_membership,
        UserToken: token,
        AccessKey: access_key,
        VariableGroup: variable_group,
        Runner: runner,
        RegistrationToken: registration,
        TaskTemplate: template,
        User: cast.viewer,
        Group: Group.objects.create(name="support"),
    }


def address(model: type[Any], page: str, *args: object) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


MODELS = (
    Project, Membership, UserToken, AccessKey, VariableGroup, Runner, RegistrationToken,
    TaskTemplate, User, Group,
)  # fmt: skip


def test_every_model_that_can_be_added_is_walked(cast: Cast, superuser: User) -> None:
    request = RequestFactory().get("/")
    request.user = superuser
    registered = {
        model for model, page in site.site._registry.items() if page.has_add_permission(request)
    }
    assert registered == set(MODELS) == forms(cast).keys()


@pytest.mark.parametrize("model", MODELS)
def test_adding_leaves_exactly_one_entry(model: type[Any], cast: Cast, admin: Client) -> None:
    with one_entry() as entries:
        answer = admin.post(address(model, "add"), forms(cast)[model])
        assert answer.status_code in (200, 302)
    entry = entries[0]
    assert (entry.verb, entry.actor, entry.way) == ("created", "root", "admin")
    assert_nothing_secret()


@pytest.mark.parametrize("model", [model for model in MODELS if model is not RegistrationToken])
def test_changing_leaves_exactly_one_entry_that_names_the_fields(
    model: type[Any], cast: Cast, everything: dict[type[Any], Any], admin: Client
) -> None:
    row = everything[model]
    given = forms(cast)[model]
    if model is User:
        joined = timezone.now()
        given = {"username": "viewer", "is_staff": "on", "is_active": "on",
                 "date_joined_0": f"{joined:%Y-%m-%d}", "date_joined_1": "12:00:00"}  # fmt: skip
    with one_entry() as entries:
        answer = admin.post(address(model, "change", row.pk), given)
        assert answer.status_code == 302, answer.context["adminform"].errors
    entry = entries[0]
    assert (entry.verb, entry.object_id, entry.actor) == ("changed", row.pk, "root")
    assert entry.changes
    if model is User:
        assert entry.changes["is_staff"] == {"old": False, "new": True}
    assert_nothing_secret()


REMOVABLE = [model for model in MODELS if model is not Project]


@pytest.mark.parametrize("way", ["page", "action"])
@pytest.mark.parametrize("model", REMOVABLE)
def test_deleting_leaves_exactly_one_entry(
    model: type[Any], way: str, cast: Cast, everything: dict[type[Any], Any], admin: Client
) -> None:
    row = everything[model]
    page, data = address(model, "delete", row.pk), {"post": "yes"}
    if way == "action":
        page = address(model, "changelist")
        action = "revoke" if model in (UserToken, RegistrationToken) else "delete_selected"
        data |= {"action": action, "_selected_action": row.pk, "sure": "yes"}
    with one_entry() as entries:
        assert admin.post(page, data).status_code == 302
    assert entries[0].verb in ("removed", "revoked")
    assert entries[0].actor == "root"


def test_members_in_a_projects_form_go_through_the_same_rules(cast: Cast, admin: Client) -> None:
    owner = Membership.objects.get(project=cast.project, user=cast.owner)
    form = {
        "name": cast.project.name,
        "max_parallel_tasks": 0,
        "memberships-TOTAL_FORMS": 2,
        "memberships-INITIAL_FORMS": 1,
        "memberships-0-id": owner.pk,
        "memberships-0-project": cast.project.pk,
        "memberships-0-user": cast.owner.pk,
        "memberships-0-role": "viewer",
        "memberships-1-project": cast.project.pk,
        "memberships-1-user": cast.outsider.pk,
        "memberships-1-role": "operator",
    }
    page = address(Project, "change", cast.project.pk)
    assert "last active owner" in refusal(admin.post(page, form))
    owner.refresh_from_db()
    assert owner.role == "owner"
    assert not Membership.objects.filter(project=cast.project, user=cast.outsider).exists()
    with one_entry() as entries:
        assert admin.post(page, form | {"memberships-0-role": "owner"}).status_code == 302
    assert (entries[0].kind, entries[0].name) == ("member", "outsider")


def test_the_last_owner_of_a_project_cannot_be_deleted(cast: Cast, admin: Client) -> None:
    for page, data in (
        (address(User, "delete", cast.owner.pk), {"post": "yes"}),
        (
            address(User, "changelist"),
            {"post": "yes", "action": "delete_selected", "_selected_action": cast.owner.pk},
        ),
    ):
        answer = admin.post(page, data)
        assert "last active owner" in " ".join(map(str, get_messages(answer.wsgi_request)))
    assert User.objects.filter(pk=cast.owner.pk).exists()


def test_new_passwords_are_noted_and_not_what_they_are(cast: Cast, superuser: User) -> None:
    client = Client()
    client.force_login(superuser)
    new = {"password1": "long enough 77", "password2": "long enough 77", "usable_password": "true"}
    with one_entry() as entries:
        client.post(f"/admin/auth/user/{cast.viewer.pk}/password/", new)
    assert (entries[0].verb, entries[0].name) == ("changed_password", "viewer")
    assert "enough" not in str([entry.as_json() for entry in AuditEntry.objects.all()])
    none = {"usable_password": "false", "unset-password": "yes"}
    with one_entry() as entries:
        client.post(f"/admin/auth/user/{cast.viewer.pk}/password/", none)
    assert (entries[0].verb, entries[0].name) == ("changed_password", "viewer")
    assert not User.objects.get(pk=cast.viewer.pk).has_usable_password()


@pytest.mark.parametrize(
    "action", ["lift_quarantine", "rotate"]
)  # of runners; what others offer is deletion
def test_actions_leave_one_entry(action: str, runner: Runner, admin: Client) -> None:
    assert runner.quarantine(reason="It wrote too much.", now=timezone.now())
    given = {"action": action, "_selected_action": runner.pk, "sure": "yes", "overlap": "600"}
    with one_entry() as entries:
        admin.post(address(Runner, "changelist"), given)
    assert entries[0].name == "web-1"
    assert_nothing_secret()


def test_signing_out_by_the_admins_address_is_noted_too(admin: Client) -> None:
    with one_entry() as entries:
        assert admin.post("/admin/logout/").status_code == 302
    assert entries[0].verb == "signed_out"
    assert admin.get("/admin/").status_code == 302
