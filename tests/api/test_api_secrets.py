"""Access keys and variable groups over the API: secrets go in and never come out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from projects.encryption import new_key
from projects.models import AccessKey, VariableGroup
from tasks.models import TaskTemplate
from tests.api.conftest import Api
from tests.cast import CANARY, Cast

KEY_FIELDS = {"id", "name", "kind", "login", "secret_changed_at", "problem"}
GROUP_FIELDS = {"id", "name", "description", "variables", "secret_names", "problem"}


@pytest.fixture
def manager(cast: Cast, api: Callable[..., Api]) -> Api:
    return api(cast.manager)


@pytest.fixture
def keys(cast: Cast) -> str:
    return f"projects/{cast.project.pk}/access-keys/"


@pytest.fixture
def groups(cast: Cast) -> str:
    return f"projects/{cast.project.pk}/variable-groups/"


def test_a_key_comes_back_without_its_secret(manager: Api, keys: str) -> None:
    given = {"name": "Registry", "kind": "login_password", "login": "robot", "password": CANARY}
    answer = manager.post(keys, given)
    assert answer.status_code == 201
    body = answer.json()
    assert body.keys() == KEY_FIELDS and body["login"] == "robot" and body["problem"] == ""
    for found in (answer, manager.get(f"access-keys/{body['id']}/"), manager.get(keys)):
        assert CANARY not in found.content.decode()
        assert found["Cache-Control"] == "no-store"
    assert AccessKey.objects.get().open() == {"password": CANARY}


def test_a_new_secret_replaces_the_old_one_and_a_new_name_leaves_it(
    manager: Api, access_key: AccessKey
) -> None:
    address = f"access-keys/{access_key.pk}/"
    before = manager.get(address).json()
    assert manager.patch(address, {"name": "Renamed"}).json() == {**before, "name": "Renamed"}
    assert AccessKey.objects.get().open() == {"value": CANARY}
    answer = manager.patch(address, {"value": "\n second-" + CANARY})
    assert answer.json()["secret_changed_at"] > before["secret_changed_at"]
    assert AccessKey.objects.get().open() == {"value": "\n second-" + CANARY}


def test_the_kind_of_a_key_stays(manager: Api, access_key: AccessKey) -> None:
    answer = manager.patch(f"access-keys/{access_key.pk}/", {"kind": "none"})
    assert (answer.status_code, list(answer.json()["fields"])) == (400, ["kind"])
    same = manager.patch(f"access-keys/{access_key.pk}/", {"kind": "string"})
    assert same.status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"kind": "string"}, "value"),
        ({"kind": "string", "value": "tiny"}, "value"),
        ({"kind": "string", "value": None}, "value"),
        ({"kind": "string", "value": ["a", "b"]}, "value"),
        ({"kind": "string", "value": CANARY, "login": "x"}, "login"),
        ({"kind": "string", "password": CANARY}, "password"),
        ({"kind": "ssh", "private_key": "ssh-rsa " + CANARY}, "private_key"),
        ({"kind": "gpg", "value": CANARY}, "kind"),
        ({"value": CANARY}, "kind"),
        ({"kind": "none", "secret": CANARY}, "secret"),
        ({"kind": "none", "name": "two\nlines"}, "name"),
    ],
)
def test_a_key_that_cannot_be_is_400_names_the_field_and_repeats_no_secret(
    body: dict[str, Any], field: str, manager: Api, keys: str
) -> None:
    answer = manager.post(keys, {"name": "x", **body})
    assert (answer.status_code, list(answer.json()["fields"])) == (400, [field])
    assert CANARY not in answer.content.decode()
    assert not AccessKey.objects.exists()


def test_taken_names_are_409(
    manager: Api, keys: str, groups: str, access_key: AccessKey, variable_group: VariableGroup
) -> None:
    answer = manager.post(keys, {"name": "REGISTRY", "kind": "none"})
    assert (answer.status_code, answer.json()["code"]) == (409, "access_key_name_taken")
    answer = manager.post(groups, {"name": "production"})
    assert (answer.status_code, answer.json()["code"]) == (409, "variable_group_name_taken")


def test_a_group_shows_values_of_plain_variables_and_names_of_secrets(
    manager: Api, groups: str, cast: Cast, api: Callable[..., Api]
) -> None:
    given = {"name": "P", "variables": {"REGION": "eu"}, "secrets": {"TOKEN": CANARY}}
    body = manager.post(groups, given).json()
    assert body.keys() == GROUP_FIELDS
    read = api(cast.viewer).get(f"variable-groups/{body['id']}/")
    assert read.json() == body and CANARY not in read.content.decode()
    assert (body["variables"], body["secret_names"]) == ({"REGION": "eu"}, ["TOKEN"])


def test_secrets_of_a_group_change_one_by_one(manager: Api, variable_group: VariableGroup) -> None:
    address = f"variable-groups/{variable_group.pk}/"
    body = manager.patch(address, {"secrets": {"SECOND": "second-" + CANARY}}).json()
    assert body["secret_names"] == ["API_TOKEN", "SECOND"]
    assert body["variables"] == {"REGION": "eu"}
    body = manager.patch(address, {"secrets": {"API_TOKEN": None, "NONE_SUCH": None}}).json()
    assert body["secret_names"] == ["SECOND"]
    assert variable_group.secrets.get().open() == "second-" + CANARY


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("secrets", []),
        ("secrets", {"A": 1}),
        ("secrets", {"A": "tiny"}),
        ("secrets", {"A": {"b": CANARY}}),
        ("secrets", {"FORGE_A": CANARY}),
        ("secrets", {"LD_PRELOAD": CANARY}),
        ("secrets", {f"A{number}": CANARY for number in range(101)}),
        ("secrets", "A=" + CANARY),
        ("variables", {"PYTHONPATH": "/x"}),
        ("variables", {"A": None}),
    ],
)
def test_a_group_that_cannot_be_is_400_and_names_the_field(
    field: str, value: object, manager: Api, groups: str
) -> None:
    answer = manager.post(groups, {"name": "x", field: value})
    assert (answer.status_code, list(answer.json()["fields"])) == (400, [field])
    assert CANARY not in answer.content.decode()
    assert not VariableGroup.objects.exists()


def test_a_template_names_its_sources(
    manager: Api, template: TaskTemplate, access_key: AccessKey, variable_group: VariableGroup
) -> None:
    address = f"templates/{template.pk}/"
    sources = {
        "variable_groups": [variable_group.pk],
        "access_keys": [{"access_key": access_key.pk, "variable": "REGISTRY"}],
    }
    answer = manager.patch(address, sources)
    assert answer.status_code == 200
    assert {name: answer.json()[name] for name in sources} == sources
    assert manager.patch(address, {"script": "true"}).json() == {**answer.json(), "script": "true"}
    emptied = manager.patch(address, {"variable_groups": [], "access_keys": []}).json()
    assert (emptied["variable_groups"], emptied["access_keys"]) == ([], [])


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"variable_groups": [999]}, 409, "no variable group with the id 999"),
        ({"access_keys": [{"access_key": 999, "variable": "A"}]}, 409, "no access key"),
        ({"access_keys": [{"access_key": 1}]}, 400, "access_keys"),
        ({"access_keys": [{"access_key": "KEY", "variable": "FORGE_A"}]}, 400, "FORGE_"),
        (
            {"access_keys": [{"access_key": "KEY", "variable": "A", "value": "b"}]},
            400,
            "no such field",
        ),
        ({"access_keys": [{"access_key": "KEY", "variable": "A"}] * 2}, 400, "each access key"),
        ({"access_keys": {}}, 400, "access_keys"),
        ({"access_keys": [{"access_key": "KEY", "variable": "A"}] * 51}, 400, "50"),
        ({"variable_groups": ["x"]}, 400, "variable_groups"),
        ({"variable_groups": [2**70]}, 400, "variable_groups"),
        (
            {
                "environment": {"A": ""},
                "access_keys": [{"access_key": "KEY", "variable": "A"}],
            },
            409,
            "A would be set by its own environment",
        ),
    ],
)
def test_sources_that_cannot_be_are_refused(
    body: Any, status: int, words: str, manager: Api, template: TaskTemplate, access_key: AccessKey
) -> None:
    for use in body.get("access_keys", []):
        if use["access_key"] == "KEY":
            use["access_key"] = access_key.pk
    answer = manager.patch(f"templates/{template.pk}/", body)
    assert answer.status_code == status
    assert words in answer.content.decode()
    assert not template.access_key_uses.exists()


def test_what_a_template_uses_is_not_removed(
    manager: Api, template: TaskTemplate, access_key: AccessKey, variable_group: VariableGroup
) -> None:
    uses = [{"access_key": access_key.pk, "variable": "A"}]
    sources = {"variable_groups": [variable_group.pk], "access_keys": uses}
    manager.patch(f"templates/{template.pk}/", sources)
    for path in (f"access-keys/{access_key.pk}/", f"variable-groups/{variable_group.pk}/"):
        answer = manager.delete(path)
        assert (answer.status_code, answer.json()["code"]) == (409, "source_in_use")
        assert "Restart" in answer.json()["message"]
    manager.delete(f"templates/{template.pk}/")
    for path in (f"access-keys/{access_key.pk}/", f"variable-groups/{variable_group.pk}/"):
        assert manager.delete(path).status_code == 204
        assert manager.get(path).status_code == 404


def test_without_a_key_nothing_is_stored_and_the_answer_says_how_to_make_one(
    manager: Api, keys: str, groups: str, settings: Any
) -> None:
    settings.FORGE_SECRETS_KEY = ""
    for answer in (
        manager.post(keys, {"name": "k", "kind": "string", "value": CANARY}),
        manager.post(groups, {"name": "g", "secrets": {"A": CANARY}}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "secrets_key")
        assert "manage.py new_secrets_key" in answer.json()["message"]
    assert manager.post(groups, {"name": "plain", "variables": {"A": "b"}}).status_code == 201
    assert VariableGroup.objects.count() == 1


def test_a_lost_key_is_told_and_breaks_no_list(
    manager: Api,
    keys: str,
    groups: str,
    settings: Any,
    access_key: AccessKey,
    variable_group: VariableGroup,
) -> None:
    settings.FORGE_SECRETS_KEY = new_key()
    (key,) = manager.get(keys).json()["results"]
    (group,) = manager.get(groups).json()["results"]
    assert "cannot be read" in key["problem"] and "API_TOKEN" in group["problem"]
    assert manager.patch(f"access-keys/{key['id']}/", {"value": CANARY}).json()["problem"] == ""
