"""Access keys and variable groups in the admin: the same operations, the same refusals."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse

from projects.models import AccessKey, VariableGroup
from tasks.models import TaskTemplate
from tasks.operations import save_template
from tests.admin.conftest import refusal
from tests.admin.test_admin_changes import template_form
from tests.cast import CANARY, Cast


def key_form(cast: Cast, **changes: Any) -> dict[str, Any]:
    return {"project": cast.project.pk, "name": "New", "kind": "string", "login": "", **changes}


def test_a_key_is_added_and_its_secret_replaced_without_being_shown(
    cast: Cast, admin: Client
) -> None:
    page = reverse("admin:projects_accesskey_add")
    assert admin.post(page, key_form(cast, value=CANARY)).status_code == 302
    key = AccessKey.objects.get()
    page = reverse("admin:projects_accesskey_change", args=[key.pk])
    assert CANARY not in admin.get(page).text
    admin.post(page, key_form(cast, name="Renamed", kind="none"))
    key.refresh_from_db()
    assert (key.name, key.kind, key.open()) == ("Renamed", "string", {"value": CANARY})
    admin.post(page, key_form(cast, value="second-" + CANARY))
    key.refresh_from_db()
    assert key.open() == {"value": "second-" + CANARY}


def test_a_secret_that_is_too_short_is_refused_with_a_sentence(cast: Cast, admin: Client) -> None:
    page = reverse("admin:projects_accesskey_add")
    answer = admin.post(page, key_form(cast, value="tiny"))
    assert "at least 8 characters" in refusal(answer, "value")
    assert not AccessKey.objects.exists()


def test_names_that_are_taken_are_refused_at_the_field(
    cast: Cast, admin: Client, access_key: AccessKey, variable_group: VariableGroup
) -> None:
    answer = admin.post(
        reverse("admin:projects_accesskey_add"), key_form(cast, name="REGISTRY", value=CANARY)
    )
    assert "name" in answer.context["adminform"].errors and CANARY not in answer.text
    given = {"project": cast.project.pk, "name": "production", "variables": "{}"}
    answer = admin.post(reverse("admin:projects_variablegroup_add"), given)
    assert "name" in answer.context["adminform"].errors


def test_a_groups_secrets_are_set_and_removed_by_name(
    cast: Cast, admin: Client, variable_group: VariableGroup
) -> None:
    page = reverse("admin:projects_variablegroup_change", args=[variable_group.pk])
    given = {"name": "Production", "variables": '{"REGION": "us"}', "description": ""}
    changes = {"set_name": "SECOND", "set_value": CANARY, "remove_names": "API_TOKEN"}
    assert admin.post(page, given | changes).status_code == 302
    group = VariableGroup.objects.get()
    assert group.names == ["REGION", "SECOND"] and group.variables["REGION"] == "us"
    assert group.secrets.get().open() == CANARY
    answer = admin.post(page, given | {"set_name": "THIRD"})
    assert "set_value" in answer.context["adminform"].errors


@pytest.mark.parametrize("way", ["page", "action"])
def test_what_templates_use_is_not_deleted(
    way: str, admin: Client, template: TaskTemplate, access_key: AccessKey
) -> None:
    save_template(template=template, tags=(), keys={access_key.pk: "K"})
    if way == "page":
        page = reverse("admin:projects_accesskey_delete", args=[access_key.pk])
        data: dict[str, Any] = {"post": "yes"}
    else:
        page = reverse("admin:projects_accesskey_changelist")
        data = {"action": "delete_selected", "_selected_action": [access_key.pk], "post": "yes"}
    answer = admin.post(page, data)
    assert answer.status_code == 302
    assert "used by the template Restart" in str(*get_messages(answer.wsgi_request))
    assert AccessKey.objects.exists()
    save_template(template=template, tags=(), keys={})
    admin.post(page, data)
    assert not AccessKey.objects.exists()


def test_of_many_all_are_deleted_or_none(
    cast: Cast, admin: Client, template: TaskTemplate, access_key: AccessKey
) -> None:
    for name in ("A", "Z"):
        AccessKey.objects.create(project=cast.project, name=name, kind="none")
    save_template(template=template, tags=(), keys={access_key.pk: "K"})
    page = reverse("admin:projects_accesskey_changelist")
    chosen = list(AccessKey.objects.values_list("pk", flat=True))
    data = {"action": "delete_selected", "_selected_action": chosen, "post": "yes"}
    answer = admin.post(page, data)
    said = [str(message) for message in get_messages(answer.wsgi_request)]
    assert said[0] == "Nothing was deleted." and "used by the template Restart" in said[1]
    assert AccessKey.objects.count() == len(chosen)
    assert not LogEntry.objects.filter(action_flag=DELETION).exists()
    save_template(template=template, tags=(), keys={})
    admin.post(page, data)
    assert not AccessKey.objects.exists()
    assert LogEntry.objects.filter(action_flag=DELETION).count() == len(chosen)


def test_a_template_is_given_sources_in_the_admin(
    admin: Client, template: TaskTemplate, access_key: AccessKey, variable_group: VariableGroup
) -> None:
    page = reverse("admin:tasks_tasktemplate_change", args=[template.pk])
    chosen = {"variable_groups": [variable_group.pk], "key_names": "KEY=Registry\r\n"}
    given = template_form(template, environment="{}")
    assert admin.post(page, given | chosen).status_code == 302
    assert list(template.variable_groups.all()) == [variable_group]
    assert [str(use) for use in template.access_key_uses.all()] == ["Registry as KEY"]
    assert "KEY=Registry" in admin.get(page).text
    answer = admin.post(page, given | {"key_names": "KEY=Unknown"})
    assert "key_names" in answer.context["adminform"].errors
    other = VariableGroup.objects.create(project=variable_group.project, name="Other")
    VariableGroup.objects.filter(pk=other.pk).update(variables={"REGION": "x"})
    both = {"variable_groups": [variable_group.pk, other.pk], "key_names": ""}
    answer = admin.post(page, given | both)
    assert "REGION would be set by" in refusal(answer)
    assert list(template.variable_groups.all()) == [variable_group]
