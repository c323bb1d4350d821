"""Whatever is wrong with a request, the answer is JSON with a code and a sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import InterfaceError, OperationalError, connection, transaction

from projects.models import Project
from tests.api.conftest import Api
from tests.cast import Cast

JSON = "application/json"


@pytest.fixture
def owner(cast: Cast, api: Callable[..., Api]) -> Api:
    return api(cast.owner)


def send(client: Api, data: bytes, content_type: str) -> Any:
    path = "/api/v1/projects/"
    return client.client.generic("POST", path, data, content_type, headers=client.headers)


@pytest.mark.parametrize(
    ("data", "content_type", "status", "code"),
    [
        (b"{", JSON, 400, "parse_error"),
        (b"\xff\xfe", JSON, 400, "parse_error"),
        (b"[]", JSON, 400, "parse_error"),
        (b'"text"', JSON, 400, "parse_error"),
        (b"null", JSON, 400, "parse_error"),
        (b'{"name": NaN}', JSON, 400, "parse_error"),
        (b'{"name": ' + b"[" * 100_000, JSON, 400, "parse_error"),
        (b'{"name": "a\\u0000b"}', JSON, 400, "parse_error"),
        (b'{"name": "\\ud800"}', JSON, 400, "parse_error"),
        (b'{"\\ud800": 1}', JSON, 400, "parse_error"),
        (b'{"name": ' + b"1" * 5000 + b"}", JSON, 400, "parse_error"),
        (b"name=x", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b"name", "text/plain", 415, "unsupported_media_type"),
        (b'{"name": "' + b"x" * 4_300_000 + b'"}', JSON, 413, "too_large"),
        (b"{}", JSON, 400, "invalid"),
    ],
)
def test_a_bad_body_is_refused(
    data: bytes, content_type: str, status: int, code: str, owner: Api
) -> None:
    answer = send(owner, data, content_type)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["message"]
    assert answer["Content-Type"] == JSON


def test_an_unknown_field_is_named(owner: Api) -> None:
    answer = owner.post("projects/", {"name": "x", "colour": "red"})
    assert answer.status_code == 400
    assert "Possible: description, max_parallel_tasks, name" in answer.json()["fields"]["colour"][0]
    assert answer.json()["message"].startswith("colour: ")


def test_a_field_that_forge_sets_is_refused(owner: Api, cast: Cast) -> None:
    answer = owner.patch(f"projects/{cast.project.pk}/", {"id": 5})
    assert answer.json()["fields"]["id"] == ["This field is set by Forge. Leave it out."]


def test_long_names_of_unknown_fields_are_not_sent_back_whole(owner: Api) -> None:
    answer = owner.post("projects/", {"x" * 100_000: 1, **{f"f{i}": 1 for i in range(1000)}})
    assert answer.status_code == 400
    assert len(answer.content) < 2_000


@pytest.mark.parametrize(
    "path", ["", "nothing", "v1", "v1/projects", "v1/tasks/x/", "v1/tasks/1/log/", "%00", "../x"]
)
@pytest.mark.parametrize("method", ["get", "post", "put", "delete", "options"])
def test_an_unknown_address_is_json_404_in_every_method(path: str, method: str, owner: Api) -> None:
    answer = getattr(owner.client, method)(f"/api/{path}")
    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"


@pytest.mark.parametrize("number", [2**63, 2**64, 10**30, "9" * 5000])
@pytest.mark.parametrize(
    "path",
    ["projects/{}/", "templates/{}/", "tasks/{}/", "tasks/{}/log", "runners/{}/",
     "projects/{}/tasks/", "projects/{}/runners/", "projects/{}/templates/"],
)  # fmt: skip
def test_an_id_beyond_64_bits_is_404(path: str, number: object, owner: Api) -> None:
    assert owner.get(path.format(number)).status_code == 404


@pytest.mark.parametrize("query", ["page=0", "page=x", "page=99", f"page={10**40}", "page=%00"])
def test_a_page_that_is_not_there_is_404(query: str, owner: Api) -> None:
    answer = owner.get(f"projects/?{query}")
    assert answer.status_code == 404 and answer.json()["code"] == "no_such_page"
    assert "This list has no such page" in answer.json()["message"]


@pytest.mark.parametrize("query", ["page_size=-1", "page_size=x", "page_size=100000000000000"])
def test_page_sizes_are_bounded(query: str, owner: Api, cast: Cast) -> None:
    for number in range(201):
        Project.objects.create(name=f"P{number}").memberships.create(user=cast.owner, role="owner")
    assert len(owner.get(f"projects/?{query}").json()["results"]) <= 200


def test_a_method_that_is_not_there_names_those_that_are(owner: Api) -> None:
    answer = owner.send("PUT", "projects/", {})
    assert answer.status_code == 405
    assert "GET, POST" in answer.json()["message"]
    assert "GET" in answer["Allow"]


def test_the_accept_header_does_not_turn_answers_into_html(owner: Api) -> None:
    owner.headers["accept"] = "text/html"
    assert owner.get("projects/")["Content-Type"] == JSON
    assert owner.get("projects/99/")["Content-Type"] == JSON


def test_a_failure_of_forge_is_json_without_a_traceback(
    owner: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("the very reason")

    monkeypatch.setattr("forge.api.projects.create_project", fail)
    answer = owner.post("projects/", {"name": "x"})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert b"the very reason" not in answer.content
    assert "the very reason" in caplog.text


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_a_database_that_is_away_is_503(
    error: type[Exception], owner: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise error("gone")

    monkeypatch.setattr("forge.api.projects.create_project", fail)
    answer = owner.post("projects/", {"name": "x"})
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")


def test_a_migration_that_was_forgotten_is_no_outage(
    owner: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To wait for it helps nobody, so nobody is told to."""

    def fail(**_: object) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT column_to_come FROM projects_project")

    monkeypatch.setattr("forge.api.projects.create_project", fail)
    answer = owner.post("projects/", {"name": "x"})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "Retry-After" not in answer


def test_answers_are_not_kept_by_caches(owner: Api) -> None:
    assert owner.get("projects/")["Cache-Control"] == "no-store"
    assert owner.get("projects/99/")["Cache-Control"] == "no-store"
