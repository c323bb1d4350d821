"""Templates in the admin: disabled with a reason, enabled, duplicated, by actions."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from projects.models import Project, VariableGroup
from tasks.models import TaskTemplate
from tasks.operations import remove_template, save_template
from tests.admin.conftest import refusal
from tests.cast import Cast
from tests.writes import disabled, one_entry

LIST = "/admin/tasks/tasktemplate/"


def act(client: Client, action: str, template: TaskTemplate, **more: str) -> Any:
    given = {"action": action, "_selected_action": str(template.pk)} | more
    return client.post(LIST, given, follow=True)


def test_disabling_asks_why_first(template: TaskTemplate, admin: Client) -> None:
    asked = act(admin, "disable", template).content.decode()
    assert "Restart will be run by nobody" in asked
    empty = act(admin, "disable", template, sure="yes", reason=" ")
    assert "This field is required" in empty.content.decode()
    with one_entry() as entries:
        done = act(admin, "disable", template, sure="yes", reason="Replaced")
    assert "Disabled: 1." in done.content.decode()
    assert (entries[0].verb, entries[0].detail, entries[0].way) == ("disabled", "Replaced", "admin")
    template.refresh_from_db()
    assert (template.disabled_reason, template.disabler) == ("Replaced", "root")
    assert "Replaced" in admin.get(f"{LIST}{template.pk}/change/").content.decode()


def test_enabling_leaves_one_entry(cast: Cast, template: TaskTemplate, admin: Client) -> None:
    disabled(template, cast)
    with one_entry() as entries:
        act(admin, "enable", template)
    assert entries[0].verb == "enabled"
    template.refresh_from_db()
    assert not template.is_disabled


def test_a_copy_is_made_under_a_free_name(template: TaskTemplate, admin: Client) -> None:
    with one_entry() as entries:
        done = act(admin, "duplicate", template)
    assert "Duplicated: 1." in done.content.decode()
    assert (entries[0].verb, entries[0].name) == ("created", "Restart (copy)")
    copy = TaskTemplate.objects.get(name="Restart (copy)")
    assert [tag.name for tag in copy.tags.all()] == ["linux"]


def test_of_many_copies_those_that_fail_are_told_and_the_others_made(
    cast: Cast, template: TaskTemplate, admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed = TaskTemplate(project=cast.project, name="Removed", script="true")
    remove_template(template=save_template(template=removed, tags=()), now=timezone.now())
    bad = TaskTemplate(project=cast.project, name="Bad", script="true", queue=template.queue)
    bad.save()
    TaskTemplate.objects.filter(pk=bad.pk).update(environment={"1x": "y"})
    given = {"action": "duplicate", "_selected_action": [template.pk, removed.pk, bad.pk]}
    said = admin.post(LIST, given, follow=True).text
    assert "Duplicated: 1." in said and "Left, because they were removed: Removed." in said
    assert "1x" in said
    assert sorted(TaskTemplate.objects.values_list("name", flat=True)) == [
        "Bad", "Removed", "Restart", "Restart (copy)",
    ]  # fmt: skip

    monkeypatch.setattr("projects.admin_bases.MOST_AT_ONCE", 2)
    said = admin.post(LIST, given, follow=True).text
    assert "Nothing was done: select at most 2 task templates at once." in said
    assert TaskTemplate.objects.count() == 4


def test_who_may_only_look_is_offered_no_action(template: TaskTemplate, db: None) -> None:
    user = User.objects.create_user("support", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_tasktemplate"))
    client = Client()
    client.force_login(user)
    for action in ("disable", "enable", "duplicate"):
        act(client, action, template, sure="yes", reason="x")
    template.refresh_from_db()
    assert not template.is_disabled
    assert TaskTemplate.objects.count() == 1


def test_a_template_is_offered_its_own_projects_groups(
    cast: Cast, template: TaskTemplate, variable_group: VariableGroup, admin: Client
) -> None:
    other = Project.objects.create(name="Another place")
    foreign = VariableGroup.objects.create(project=other, name=variable_group.name)

    def offered(page: str) -> list[str]:
        field = admin.get(page).context["adminform"].form.fields["variable_groups"]
        return [str(label) for _, label in field.choices]

    own, both = f"Production ({cast.project})", "Production (Another place)"
    assert offered(f"{LIST}{template.pk}/change/") == [own]
    assert sorted(offered(f"{LIST}add/")) == sorted([own, both])
    given = {
        "project": str(cast.project.pk), "name": "New", "app": "bash", "script": "true",
        "timeout_seconds": "60", "environment": "{}", "variable_groups": [str(foreign.pk)],
    }  # fmt: skip
    said = refusal(admin.post(f"{LIST}add/", given), "variable_groups")
    assert said == "Production is a group of Another place, not of this project."
