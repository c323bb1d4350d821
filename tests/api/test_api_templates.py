from __future__ import annotations

from collections.abc import Callable

import pytest

from tasks.models import Task, TaskTemplate
from tests.api.conftest import Api
from tests.cast import Cast

FIELDS = {
    "id", "name", "description", "app", "script", "timeout_seconds", "tags", "environment",
    "variable_groups", "access_keys", "allow_parallel", "lost_runner_policy",
    "lost_runner_wait_seconds", "safe_to_rerun", "max_attempts", "stop_steps",
    "disabled_at", "disabled_by", "disabled_reason",
}  # fmt: skip


@pytest.fixture
def manager(cast: Cast, api: Callable[..., Api]) -> Api:
    return api(cast.manager)


@pytest.fixture
def path(cast: Cast) -> str:
    return f"projects/{cast.project.pk}/templates/"


@pytest.mark.parametrize("uses", [[1], ["REGISTRY"], [None], [[1]], 1])
def test_access_keys_that_are_no_list_of_uses_are_refused(
    uses: object, manager: Api, path: str
) -> None:
    """As numbers alone, which is how variable groups are named."""
    answer = manager.post(path, {"name": "Deploy", "script": "true", "access_keys": uses})
    assert answer.status_code == 400 and "access_keys" in answer.text


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
        "lost_runner_policy": "retry",
        "lost_runner_wait_seconds": 120,
        "safe_to_rerun": True,
        "max_attempts": 5,
        "stop_steps": [{"signal": "TERM", "grace_seconds": 7}],
    }
    answer = manager.post(path, given)
    assert answer.status_code == 201
    read = manager.get(f"templates/{answer.json()['id']}/").json()
    assert read == answer.json()
    assert read.keys() == FIELDS
    added = {"id": read["id"], "tags": ["ansible", "gpu"], "variable_groups": [], "access_keys": []}
    added |= {"disabled_at": None, "disabled_by": None, "disabled_reason": ""}
    assert read == {**given, **added}


def test_run_again_elsewhere_is_only_for_what_is_safe_to_run_twice(manager: Api, path: str) -> None:
    given = {"name": "Apply", "script": "true", "lost_runner_policy": "retry"}
    answer = manager.post(path, given)
    assert answer.status_code == 400
    assert "safe to run twice" in answer.json()["fields"]["lost_runner_policy"][0]
    made = manager.post(path, {**given, "safe_to_rerun": True}).json()
    # Nor can the mark be taken away under it.
    answer = manager.patch(f"templates/{made['id']}/", {"safe_to_rerun": False})
    assert (answer.status_code, manager.get(f"templates/{made['id']}/").json()) == (400, made)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ("INT", "list"),
        ([{"signal": "INT", "grace_seconds": 1}] * 9, "at most 8"),
        ([{"signal": "STOP", "grace_seconds": 1}], "STOP is no signal"),
        ([{"signal": "INT", "grace_seconds": -1}], "whole number"),
        ([{"signal": "INT", "grace_seconds": 1.5}], "whole number"),
        ([{"signal": "INT", "grace_seconds": True}], "whole number"),
        ([{"signal": "INT", "grace": 1}], "nothing else"),
        ([{"signal": "INT", "grace_seconds": 3600}] * 2, "together"),
        ([{"signal": "KILL"}, {"signal": "TERM", "grace_seconds": 1}], "comes last"),
        ([None], "Each step"),
    ],
)
def test_steps_of_a_stop_that_make_no_sense_are_refused(
    steps: object, words: str, manager: Api, path: str
) -> None:
    answer = manager.post(path, {"name": "x", "script": "true", "stop_steps": steps})
    assert answer.status_code == 400
    assert words in answer.json()["fields"]["stop_steps"][0]


def test_the_kill_that_ends_every_stop_may_be_written(manager: Api, path: str) -> None:
    steps = [{"signal": "sigint", "grace_seconds": 5}, {"signal": "KILL"}]
    made = manager.post(path, {"name": "x", "script": "true", "stop_steps": steps}).json()
    assert made["stop_steps"] == [{"signal": "INT", "grace_seconds": 5}]


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
