from __future__ import annotations

from collections.abc import Callable

import pytest

from tasks.models import Task, TaskTemplate
from tests.api.conftest import Api
from tests.cast import Cast

FIELDS = {
    "id", "name", "description", "app", "script", "timeout_seconds", "tags", "environment",
    "variable_groups", "access_keys", "allow_parallel",
}  # fmt: skip


@pytest.fixture
def manager(cast: Cast, api: Callable[..., Api]) -> Api:
    return api(cast.manager)


@pytest.fixture
def path(cast: Cast) -> str:
    return f"projects/{cast.project.pk}/templates/"


def test_a_template_comes_back_as_it_was_given(manager: Api, path: str) -> None:
    given = {
        "name": "Report",
        "description": "Every morning",
        "app": "python",
        "script": "\n  print('é')\r\n\n",
        "timeout_seconds": 60,
        "tags": ["gpu", "ansible"],
        "environment": {"REGION": "eu"},
        "allow_parallel": True,
    }
    answer = manager.post(path, given)
    assert answer.status_code == 201
    read = manager.get(f"templates/{answer.json()['id']}/").json()
    assert read == answer.json()
    assert read.keys() == FIELDS
    added = {"id": read["id"], "tags": ["ansible", "gpu"], "variable_groups": [], "access_keys": []}
    assert read == {**given, **added}


def test_name_and_script_are_enough(manager: Api, path: str) -> None:
    answer = manager.post(path, {"name": "x", "script": "true"}).json()
    assert (answer["app"], answer["timeout_seconds"]) == ("bash", 3600)
    assert (answer["tags"], answer["environment"]) == ([], {})


def test_a_taken_name_is_409(manager: Api, path: str, template: TaskTemplate) -> None:
    answer = manager.post(path, {"name": "RESTART", "script": "true"})
    assert (answer.status_code, answer.json()["code"]) == (409, "template_name_taken")
    other = manager.post(path, {"name": "Other", "script": "true"}).json()
    answer = manager.patch(f"templates/{other['id']}/", {"name": "Restart"})
    assert answer.status_code == 409


def test_a_change_touches_only_what_it_names(manager: Api, template: TaskTemplate) -> None:
    address = f"templates/{template.pk}/"
    before = manager.get(address).json()
    answer = manager.patch(address, {"script": "false"})
    assert answer.json() == {**before, "script": "false"}
    assert manager.patch(address, {"tags": []}).json()["tags"] == []


def test_a_removed_template_is_gone_but_its_tasks_stay(manager: Api, path: str, task: Task) -> None:
    address = f"templates/{task.template_id}/"
    assert manager.delete(address).status_code == 204
    assert manager.get(address).status_code == 404
    assert manager.delete(address).status_code == 404
    assert manager.get(path).json()["count"] == 0
    assert manager.get(f"tasks/{task.pk}/").json()["template"] == task.template_id


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("app", "perl"),
        ("timeout_seconds", 0),
        ("timeout_seconds", 10**30),
        ("timeout_seconds", "soon"),
        ("script", ""),
        ("script", "x" * 200_001),
        ("tags", [f"t{number}" for number in range(11)]),
        ("tags", ["Not A Tag"]),
        ("tags", "linux"),
        ("tags", [None]),
        ("tags", [["a"]]),
        ("environment", {"1A": "x"}),
        ("environment", {"FORGE_URL": "x"}),
        ("environment", {"A": 1}),
        ("environment", []),
        ("environment", None),
        ("environment", {f"V{number}": "" for number in range(101)}),
        ("allow_parallel", "perhaps"),
        ("allow_parallel", None),
    ],
)
def test_a_value_that_is_not_allowed_is_400_and_names_its_field(
    field: str, value: object, manager: Api, path: str
) -> None:
    answer = manager.post(path, {"name": "x", "script": "true", field: value})
    assert answer.status_code == 400
    assert answer.json()["fields"].keys() == {field}
