"""Nobody overwrites in the admin what they have not seen, and no form loses what was typed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.contrib.auth.signals import user_logged_in
from django.test import Client, RequestFactory
from django.utils import timezone

from projects.audit.entry import AuditEntry
from projects.members import change_role
from projects.models import AccessKey, Membership, Project, UserToken, VariableGroup
from projects.operations import change_project, create_user_token
from projects.permissions import Role
from runners.models import Runner
from runners.operations import change_runner
from tasks.models import TaskTemplate
from tasks.operations import save_access_key, save_template, save_variable_group
from tests.admin.conftest import refusal
from tests.admin.test_admin_changes import template_form
from tests.cast import Cast

SCRIPT = "echo typed for an hour\n"


def form_of(row: Any) -> str:
    return f"/admin/{row._meta.app_label}/{row._meta.model_name}/{row.pk}/change/"


def named(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]+)"', page)
    assert found, f"the page has no {name}"
    return found[1]


def everything(row: Any) -> dict[str, Any]:
    values: dict[str, Any] = type(row).objects.filter(pk=row.pk).values().get()
    return values


# Of each kind: the row, what somebody types, what somebody else does meanwhile, and a word of
# what was typed as the form shows it again.
Story = tuple[Any, dict[str, Any], Callable[[], object], str]


def of_template(cast: Cast, request: Any) -> Story:
    row: TaskTemplate = request.getfixturevalue("template")

    def meanwhile() -> None:
        other = TaskTemplate.objects.get(pk=row.pk)
        other.script = "echo theirs\n"
        save_template(template=other, tags=["linux"])

    return row, template_form(row, script=SCRIPT), meanwhile, "echo typed for an hour"


def of_access_key(cast: Cast, request: Any) -> Story:
    row: AccessKey = request.getfixturevalue("access_key")

    def meanwhile() -> None:
        other = AccessKey.objects.get(pk=row.pk)
        save_access_key(key=other, parts={"value": "another secret"}, now=timezone.now())

    return row, {"name": "Typed", "login": ""}, meanwhile, 'value="Typed"'


def of_variable_group(cast: Cast, request: Any) -> Story:
    row: VariableGroup = request.getfixturevalue("variable_group")

    def meanwhile() -> None:
        other = VariableGroup.objects.get(pk=row.pk)
        other.variables = {"REGION": "us"}
        save_variable_group(group=other, secrets={}, now=timezone.now())

    given = {"name": "Typed", "description": "", "variables": '{"REGION": "asia"}'}
    return row, given, meanwhile, 'value="Typed"'


def of_runner(cast: Cast, request: Any) -> Story:
    row: Runner = request.getfixturevalue("runner")
    given = {"tag_names": "typed", "concurrency": 7}
    meanwhile = lambda: change_runner(runner=row, changes={"concurrency": 3})  # noqa: E731
    return row, given, meanwhile, 'value="typed"'


def of_project(cast: Cast, request: Any) -> Story:
    given = {"name": "Typed", "description": "", "max_parallel_tasks": 7}
    given |= {"memberships-TOTAL_FORMS": 0, "memberships-INITIAL_FORMS": 0}

    def meanwhile() -> None:
        other = Project.objects.get(pk=cast.project.pk)
        change_project(project=other, changes={"max_parallel_tasks": 3})

    return cast.project, given, meanwhile, 'value="Typed"'


def of_member(cast: Cast, request: Any) -> Story:
    row = cast.viewers_membership
    meanwhile = lambda: change_role(membership=row, role=Role.MANAGER, by=cast.owner)  # noqa: E731
    return row, {"role": "operator"}, meanwhile, '<option value="operator" selected>'


def of_token(cast: Cast, request: Any) -> Story:
    new = create_user_token(user=cast.viewer, name="ci", expires_at=None, now=timezone.now())
    given = {"name": "typed", "expires_at_0": "", "expires_at_1": ""}
    rows = UserToken.objects.filter(pk=new.row.pk)
    return new.row, given, lambda: rows.update(name="theirs"), 'value="typed"'


def of_account(cast: Cast, request: Any) -> Story:
    joined = {"date_joined_0": "2026-01-01", "date_joined_1": "12:00:00"}
    given = {"username": "viewer", "is_active": "on", "first_name": "Typed", **joined}
    rows = User.objects.filter(pk=cast.viewer.pk)
    return cast.viewer, given, lambda: rows.update(is_active=False), 'value="Typed"'


def of_group(cast: Cast, request: Any) -> Story:
    row = Group.objects.create(name="Support")
    rows = Group.objects.filter(pk=row.pk)
    return row, {"name": "Typed"}, lambda: rows.update(name="Theirs"), 'value="Typed"'


STORIES = (
    of_template, of_access_key, of_variable_group, of_runner, of_project, of_member, of_token,
    of_account, of_group,
)  # fmt: skip


@pytest.mark.parametrize("story", STORIES)
def test_who_saves_second_overwrites_nothing_unseen_and_loses_nothing(
    story: Callable[[Cast, Any], Story],
    cast: Cast,
    admin: Client,
    request: pytest.FixtureRequest,
) -> None:
    row, typed, meanwhile, word = story(cast, request)
    page = form_of(row)
    typed["version"] = named(admin.get(page).text, "version")
    meanwhile()
    stored, entries = everything(row), AuditEntry.objects.count()

    answer = admin.post(page, typed)
    assert "was changed after you had opened it" in refusal(answer)
    assert word in answer.text
    assert f'href="{page}"' in answer.text
    assert (everything(row), AuditEntry.objects.count()) == (stored, entries)

    # To save over it is a button of its own, and it means what this page told of.
    assert "was changed" in refusal(admin.post(page, typed))
    over = named(answer.text, "over")
    assert admin.post(page, typed | {"over": over}).status_code == 302
    assert everything(row) != stored
    # A third time it is refused, or counts as saved where that is what is stored.
    stored, entries = everything(row), AuditEntry.objects.count()
    admin.post(page, typed | {"over": over})
    touched = {"updated_at": stored.get("updated_at")} if "updated_at" in stored else {}
    assert everything(row) | touched == stored
    assert AuditEntry.objects.count() == entries


@pytest.mark.parametrize("story", STORIES)
def test_what_nobody_else_has_changed_is_saved(
    story: Callable[[Cast, Any], Story],
    cast: Cast,
    admin: Client,
    request: pytest.FixtureRequest,
) -> None:
    row, typed, _, _ = story(cast, request)
    page, stored = form_of(row), everything(row)
    typed["version"] = named(admin.get(page).text, "version")
    assert admin.post(page, typed).status_code == 302
    assert everything(row) != stored


def test_a_form_that_is_wrong_keeps_the_version_that_it_was_opened_with(
    template: TaskTemplate, admin: Client
) -> None:
    page = form_of(template)
    version = named(admin.get(page).text, "version")
    template.description = "Theirs"
    save_template(template=template, tags=["linux"])
    wrong = template_form(template, script=SCRIPT, name="", version=version)
    answer = admin.post(page, wrong)
    assert "name" in answer.context["adminform"].errors
    assert named(answer.text, "version") == version


def test_a_refused_script_is_still_in_its_form(
    template: TaskTemplate, variable_group: VariableGroup, admin: Client
) -> None:
    given = template_form(template, script=SCRIPT, environment='{"API_TOKEN": "mine"}')
    answer = admin.post(form_of(template), given | {"variable_groups": [variable_group.pk]})
    assert "API_TOKEN would be set by" in refusal(answer)
    assert SCRIPT.strip() in answer.text
    template.refresh_from_db()
    assert template.script != SCRIPT and not template.variable_groups.exists()


def test_who_signs_in_meanwhile_changes_nothing_that_a_form_is_about(
    cast: Cast, admin: Client
) -> None:
    _, typed, _, _ = of_account(cast, None)
    page = form_of(cast.viewer)
    typed["version"] = named(admin.get(page).text, "version")
    user_logged_in.send(User, request=RequestFactory().get("/"), user=cast.viewer)
    cast.viewer.refresh_from_db()
    signed_in = cast.viewer.last_login
    assert admin.post(page, typed).status_code == 302
    cast.viewer.refresh_from_db()
    assert cast.viewer.first_name == "Typed" and cast.viewer.last_login == signed_in


def test_a_role_that_was_left_alone_is_not_set_back(cast: Cast, admin: Client) -> None:
    """The form of a project names the role of each member, changed or not."""
    page = form_of(cast.project)
    text = admin.get(page).text
    members = list(Membership.objects.filter(project=cast.project))
    given: dict[str, Any] = {
        "name": "Payments", "description": "Typed", "max_parallel_tasks": 0,
        "memberships-TOTAL_FORMS": len(members), "memberships-INITIAL_FORMS": len(members),
    }  # fmt: skip
    assert len(re.findall(r'name="initial-memberships-\d+-role"', text)) == len(members)
    places = dict(re.findall(r'name="memberships-(\d+)-id" value="(\d+)"', text))
    shown = {str(row.pk): row for row in members}
    for place, number in places.items():
        row = shown[number]
        given |= {
            f"memberships-{place}-id": row.pk,
            f"memberships-{place}-project": cast.project.pk,
            f"memberships-{place}-user": row.user_id,
            f"memberships-{place}-role": row.role,
            f"initial-memberships-{place}-role": row.role,
        }
    change_role(membership=cast.viewers_membership, role=Role.OPERATOR, by=cast.owner)
    assert admin.post(page, given).status_code == 302
    assert cast.viewers_membership.role == Role.OPERATOR
    assert Project.objects.get(pk=cast.project.pk).description == "Typed"
