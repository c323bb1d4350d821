"""Templates over the API: duplicate, disable, enable, history."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from projects.models import AccessKey, VariableGroup
from tasks.models import TaskTemplate
from tests.api.conftest import Api
from tests.cast import CANARY, Cast


@pytest.fixture
def manager(cast: Cast, api: Callable[..., Api], no_broker: None) -> Api:
    return api(cast.manager)


def test_a_copy_says_the_same_under_another_name(
    manager: Api, template: TaskTemplate, access_key: AccessKey, variable_group: VariableGroup
) -> None:
    path = f"templates/{template.pk}/"
    uses = [{"access_key": access_key.pk, "variable": "REGISTRY"}]
    changed = manager.patch(path, {"access_keys": uses, "variable_groups": [variable_group.pk]})
    first = manager.post(f"{path}duplicate", {})
    assert first.status_code == 201
    assert CANARY not in first.content.decode()
    told = {k: v for k, v in first.json().items() if k not in ("id", "name")}
    assert told == {k: v for k, v in changed.json().items() if k not in ("id", "name")}
    assert first.json()["name"] == "Restart (copy)"
    assert manager.post(f"{path}duplicate", {}).json()["name"] == "Restart (copy 2)"
    assert manager.post(f"{path}duplicate", {"name": "Mine"}).json()["name"] == "Mine"
    taken = manager.post(f"{path}duplicate", {"name": "mine"})
    assert (taken.status_code, taken.json()["code"]) == (409, "template_name_taken")


def test_a_disabled_template_is_not_run_and_says_why(
    cast: Cast, manager: Api, template: TaskTemplate
) -> None:
    body = manager.post(f"templates/{template.pk}/disable", {"reason": "Replaced."}).json()
    assert (body["disabled_by"], body["disabled_reason"]) == ("manager", "Replaced.")
    assert body["disabled_at"]
    refused = manager.post(f"projects/{cast.project.pk}/tasks/", {"template": template.pk})
    assert (refused.status_code, refused.json()["code"]) == (409, "template_disabled")
    assert "manager disabled it (Replaced)" in refused.json()["message"]
    again = manager.post(f"templates/{template.pk}/disable", {"reason": "Too slow"}).json()
    assert again["disabled_reason"] == "Too slow"
    body = manager.post(f"templates/{template.pk}/enable", {}).json()
    assert (body["disabled_at"], body["disabled_by"], body["disabled_reason"]) == (None, None, "")
    ran = manager.post(f"projects/{cast.project.pk}/tasks/", {"template": template.pk})
    assert ran.status_code == 201


@pytest.mark.parametrize("body", [{}, {"reason": ""}, {"reason": "a\nb"}, {"reason": "x" * 201},
                                  {"reason": 3, "until": 4}])  # fmt: skip
def test_a_reason_that_cannot_be_shown_is_refused(
    body: dict[str, object], manager: Api, template: TaskTemplate
) -> None:
    answer = manager.post(f"templates/{template.pk}/disable", body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    template.refresh_from_db()
    assert not template.is_disabled


def test_disabling_is_no_field_that_a_change_can_set(manager: Api, template: TaskTemplate) -> None:
    answer = manager.patch(f"templates/{template.pk}/", {"disabled_reason": "x"})
    assert answer.status_code == 400
    assert "set by Forge" in answer.json()["message"]


def test_the_history_says_who_changed_which_lines(manager: Api, template: TaskTemplate) -> None:
    manager.patch(f"templates/{template.pk}/", {"script": "set -e\nsystemctl restart app\n"})
    manager.post(f"templates/{template.pk}/disable", {"reason": "Replaced"})
    path = f"templates/{template.pk}/history"
    rows = manager.get(path).json()["results"]
    assert [row["verb"] for row in rows] == ["disabled", "changed", "created"]
    assert rows[0]["detail"] == "Replaced"
    assert rows[1]["actor"] == "manager"
    assert "+set -e" in rows[1]["changes"]["script"]["diff"]
    first = manager.get(f"{path}?page_size=1").json()
    assert [row["verb"] for row in first["results"]] == ["disabled"]
    rest = manager.get(first["next"].partition("/api/v1/")[2]).json()
    assert [row["verb"] for row in rest["results"]] == ["changed"]
