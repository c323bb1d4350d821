from __future__ import annotations

from collections.abc import Callable

from projects.models import Project
from projects.permissions import Role
from tests.api.conftest import Api
from tests.cast import Cast


def test_who_creates_a_project_owns_it(cast: Cast, api: Callable[..., Api]) -> None:
    answer = api(cast.viewer).post("projects/", {"name": "Mine", "description": "One line"})
    assert answer.status_code == 201
    row = Project.objects.get(pk=answer.json()["id"])
    assert row.role_of(cast.viewer) == Role.OWNER
    assert answer.json().keys() == {
        "id", "name", "description", "max_parallel_tasks", "created_at"
    }  # fmt: skip


def test_a_new_project_may_have_a_limit(cast: Cast, api: Callable[..., Api]) -> None:
    answer = api(cast.viewer).post("projects/", {"name": "Narrow", "max_parallel_tasks": 3})
    assert (answer.status_code, answer.json()["max_parallel_tasks"]) == (201, 3)
    assert Project.objects.get(pk=answer.json()["id"]).max_parallel_tasks == 3
    wrong: list[object] = [-1, 10_001, None, "many"]
    for limit in wrong:
        given = {"name": "Wrong", "max_parallel_tasks": limit}
        assert api(cast.viewer).post("projects/", given).status_code == 400


def test_a_taken_name_is_409_whatever_its_case(cast: Cast, api: Callable[..., Api]) -> None:
    answer = api(cast.owner).post("projects/", {"name": "PAYMENTS"})
    assert (answer.status_code, answer.json()["code"]) == (409, "project_name_taken")


def test_a_project_changes_in_the_fields_that_are_named(
    cast: Cast, api: Callable[..., Api]
) -> None:
    client = api(cast.manager)
    path = f"projects/{cast.project.pk}/"
    answer = client.patch(path, {"max_parallel_tasks": 3})
    assert (answer.status_code, answer.json()["max_parallel_tasks"]) == (200, 3)
    assert client.get(path).json()["name"] == "Payments"
    assert client.patch(path, {}).status_code == 200


def test_a_project_cannot_take_the_name_of_another(cast: Cast, api: Callable[..., Api]) -> None:
    answer = api(cast.owner).patch(f"projects/{cast.project.pk}/", {"name": "elsewhere"})
    assert (answer.status_code, answer.json()["code"]) == (409, "project_name_taken")


def test_a_name_is_one_line_of_at_most_80_characters(cast: Cast, api: Callable[..., Api]) -> None:
    names: list[object] = ["", " ", "a\nb", "x" * 81, None, [], {}, True]
    for name in names:
        answer = api(cast.owner).post("projects/", {"name": name})
        assert answer.status_code == 400, name
