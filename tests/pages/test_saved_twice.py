"""A form whose answer never came is sent again: what is stored already is saved."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db.models import Model
from django.test import Client

from projects.audit.entry import AuditEntry
from projects.errors import ChangedMeanwhileError
from projects.models import AccessKey, VariableGroup
from projects.versions import version_of
from runners.models import Runner
from runners.operations import change_runner
from tasks.models import TaskTemplate
from tests.api.conftest import Api
from tests.api.conftest import api as api_fixture
from tests.cast import CANARY, Cast

api = api_fixture
TEMPLATE = {"name": "Restart", "app": "bash", "script": "x\n", "timeout_seconds": "60", "tags": ""}


@pytest.fixture
def anna(cast: Cast, browser: Callable[..., Client]) -> Client:
    return browser(cast.owner)


def mark(client: Client, address: str) -> str:
    found = re.search(r'name="version" value="([^"]+)"', client.get(address).text)
    assert found
    return found[1]


def forms(
    cast: Cast, template: Model, key: Model, group: VariableGroup, runner: Model
) -> dict[str, tuple[dict[str, str], str]]:
    """Of each form what is typed, and a field of it with another content."""
    secret = f"value_{group.secrets.get().pk}"
    more = {"new_name_0": "MORE", "new_value_0": "long-enough-2", secret: "long-enough-3"}
    project = {"name": "Payments", "description": "X", "max_parallel_tasks": "7"}
    return {
        f"/templates/{template.pk}/": (TEMPLATE | {"tags": "gpu"}, "script"),
        f"/access-keys/{key.pk}/": ({"name": "Images", "value": "long-enough-1"}, "name"),
        f"/variable-groups/{group.pk}/": (
            {"name": "Live", "variables": "A=1"} | more, "variables",
        ),
        f"/projects/{cast.project.pk}/settings/": (project, "description"),
        f"/runners/{runner.pk}/change/": ({"tags": "linux, gpu", "concurrency": "5"}, "tags"),
    }  # fmt: skip


def test_what_is_stored_already_is_saved_and_nothing_else(
    cast: Cast, anna: Client, browser: Callable[..., Client], template: TaskTemplate,
    access_key: AccessKey, variable_group: VariableGroup, runner: Runner,
) -> None:  # fmt: skip
    ben = browser(cast.manager)
    asked = forms(cast, template, access_key, variable_group, runner)
    for address, (typed, other) in asked.items():
        sent = typed | {"version": mark(anna, address)}
        assert anna.post(address, sent).status_code == 302, address
        entries = AuditEntry.objects.count()
        assert anna.post(address, sent).status_code == 302, address
        # Whether a secret is what somebody else has stored is nobody's business.
        holds_secrets = address.startswith(("/access-keys/", "/variable-groups/"))
        assert ben.post(address, sent).status_code == (409 if holds_secrets else 302), address
        assert AuditEntry.objects.count() == entries
        refused = anna.post(address, sent | {other: "OTHER=2" if other == "variables" else "other"})
        assert refused.status_code == 409, address
        assert "Not saved" in refused.text


def test_a_secret_of_somebody_else_is_not_taken_for_what_is_stored(
    anna: Client, access_key: AccessKey, variable_group: VariableGroup
) -> None:
    secret = f"value_{variable_group.secrets.get().pk}"
    for address, typed, field in (
        (f"/access-keys/{access_key.pk}/", {"name": "Registry"}, "value"),
        (f"/variable-groups/{variable_group.pk}/",
         {"name": "Production", "variables": "REGION=eu"}, secret),
    ):  # fmt: skip
        sent = typed | {"version": mark(anna, address)}
        assert anna.post(address, sent | {field: "another-secret"}).status_code == 302
        assert anna.post(address, sent | {field: CANARY}).status_code == 409
        assert anna.post(address, sent).status_code == 302


@pytest.mark.parametrize(
    ("kind", "fields", "model"),
    [
        ("templates", TEMPLATE, TaskTemplate),
        ("access-keys", {"name": "New", "kind": "string", "value": "long-enough"}, AccessKey),
        ("variable-groups", {"name": "New", "variables": "A=1"}, VariableGroup),
    ],
)
def test_what_was_made_is_not_called_a_name_that_is_taken(
    kind: str, fields: dict[str, str], model: type[Model], cast: Cast, anna: Client
) -> None:
    address = f"/projects/{cast.project.pk}/{kind}/new/"
    word = re.search(r'name="once" value="([^"]+)"', anna.get(address).text)
    assert word
    sent = fields | {"once": word[1]}
    assert anna.post(address, sent).status_code == 302
    anna.get("/")
    said = anna.post(address, sent, follow=True)
    assert f"{fields['name']} was made already" in said.text
    assert model._default_manager.count() == 1
    assert anna.post(address, sent | {"once": "x" * 22}).status_code == 400


def test_what_was_made_is_remembered_before_anybody_is_answered(
    cast: Cast, anna: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a request that is stopped nothing runs any more once its view has ended."""
    address = f"/projects/{cast.project.pk}/templates/new/"
    word = re.search(r'name="once" value="([^"]+)"', anna.get(address).text)
    assert word
    before = Session.objects.get().session_data
    stop = "django.contrib.sessions.middleware.SessionMiddleware.process_response"
    with monkeypatch.context() as stopped:
        stopped.setattr(stop, lambda _self, _request, response: response)
        anna.post(address, TEMPLATE | {"once": word[1]})
    assert Session.objects.get().session_data != before
    said = anna.post(address, TEMPLATE | {"once": word[1]}, follow=True)
    assert "was made already" in said.text


def test_a_patch_whose_answer_was_lost_can_be_sent_again(
    cast: Cast, api: Callable[[User], Api], template: TaskTemplate
) -> None:
    client, path = api(cast.owner), f"templates/{template.pk}/"
    client.headers["If-Match"] = f'"{version_of(template)}"'
    for script, status in (("new\n", 200), ("new\n", 200), ("newer\n", 412)):
        assert client.patch(path, {"script": script}).status_code == status


def test_a_change_that_fails_on_an_outdated_version_is_told_as_outdated(runner: Runner) -> None:
    with pytest.raises(ChangedMeanwhileError):
        change_runner(runner=runner, changes={"concurrency": 3}, tags=["not a tag!"], version="x")
