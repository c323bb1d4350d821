"""The schema is valid, complete, and true."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, resolve
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema

from forge.api.urls import no_such_address, urlpatterns

DOCS = Path(__file__).parents[2] / "docs" / "api.md"


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    GENERATOR_STATS.reset()
    generated: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return generated


def of_this_api(schema: dict[str, Any]) -> list[str]:
    return [path for path in schema["paths"] if path.startswith("/api/v1/")]


def test_the_schema_is_valid_and_made_without_warnings(schema: dict[str, Any]) -> None:
    validate_schema(schema)
    assert not GENERATOR_STATS


def test_every_path_in_the_schema_exists_and_every_address_is_in_it(
    schema: dict[str, Any],
) -> None:
    paths = of_this_api(schema)
    for path in paths:
        address = path.replace("{id}", "1").replace("{form}", "csv")
        assert resolve(address).func is not no_such_address
    versioned = [p for p in urlpatterns if isinstance(p, URLPattern) and "v1/" in str(p.pattern)]
    assert len(paths) == len(versioned)


def test_every_operation_has_a_name_a_sentence_and_its_errors(schema: dict[str, Any]) -> None:
    for path in of_this_api(schema):
        for method, operation in schema["paths"][path].items():
            assert operation["description"], (method, path)
            assert {"401", "404"} <= operation["responses"].keys()


def test_every_operation_is_in_the_documentation(schema: dict[str, Any]) -> None:
    text = DOCS.read_text()
    for path in of_this_api(schema):
        for method in schema["paths"][path]:
            assert f"{method.upper()} {path}" in text, (method, path)


def test_the_schema_is_served_as_json(client: Client) -> None:
    answer = client.get("/api/schema/")
    assert answer.status_code == 200
    assert answer.json()["openapi"].startswith("3.")


def test_the_documentation_needs_no_inline_script_and_no_other_host(client: Client) -> None:
    page = client.get("/api/docs/").content.decode()
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", page, re.DOTALL)
    assert scripts
    assert all("src=" in attributes and not body.strip() for attributes, body in scripts)
    assert "//" not in re.sub(r"https?://testserver", "", page.split("<body>")[1])
    script = client.get("/api/docs/?script=")
    assert script["Content-Type"].startswith("application/javascript")


@pytest.mark.parametrize("address", ["/api/schema/", "/api/docs/"])
def test_errors_of_the_documentation_are_json_too(address: str, client: Client) -> None:
    answer = client.post(address)
    assert answer.status_code == 405
    assert answer.json()["code"] == "method_not_allowed"


@pytest.mark.parametrize("text", ["%00", "%0d%0aX-A:b", "9%22%3b+filename=%22x.html", "%ff", "2"])
@pytest.mark.parametrize("name", ["version", "lang"])
@pytest.mark.parametrize("address", ["/api/schema/", "/api/docs/"])
def test_what_strangers_ask_for_with_the_documentation_reaches_no_header(
    address: str, name: str, text: str, client: Client
) -> None:
    answer, usual = client.get(f"{address}?{name}={text}"), client.get(address)
    assert answer.status_code == 200
    for header in answer.headers.keys() - {"Content-Length"}:
        assert answer[header] == usual[header]
    if address == "/api/schema/":
        assert answer.content == usual.content
