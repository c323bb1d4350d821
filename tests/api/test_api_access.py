"""Every address of the API, every method, everybody: who gets which answer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.urls import URLPattern
from django.utils import timezone

from forge.api.urls import urlpatterns
from projects.models import AccessKey, VariableGroup
from projects.operations import create_user_token
from runners.models import RegistrationToken, Runner
from tasks.models import Task, TaskTemplate
from tests.api.conftest import Api
from tests.cast import EVERYBODY, Cast

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
# owner, manager, operator, viewer, outsider, nobody
EVERY_SIGNED_IN = (200, 200, 200, 200, 200, 401)
MEMBERS_READ = (200, 200, 200, 200, 404, 401)
MANAGERS_CREATE = (201, 201, 403, 403, 404, 401)
MANAGERS_CHANGE = (200, 200, 403, 403, 404, 401)
MANAGERS_DRAIN = (409, 409, 403, 403, 404, 401)  # no worker is connected here
MANAGERS_REMOVE = (204, 204, 403, 403, 404, 401)
OWNERS_CREATE = (201, 403, 403, 403, 404, 401)
OWNERS_CHANGE = (200, 403, 403, 403, 404, 401)
OWNERS_REMOVE = (204, 403, 403, 403, 404, 401)
ADMINISTRATORS = (403, 403, 403, 403, 403, 401)
OPERATORS_CREATE = (201, 201, 201, 403, 404, 401)
OPERATORS_CHANGE = (200, 200, 200, 403, 404, 401)
NOT_A_METHOD = (405, 405, 405, 405, 405, 401)

TABLE = {
    ("GET", "api-projects"): EVERY_SIGNED_IN,
    ("POST", "api-projects"): (201, 201, 201, 201, 201, 401),
    ("GET", "api-project"): MEMBERS_READ,
    ("PATCH", "api-project"): MANAGERS_CHANGE,
    ("GET", "api-templates"): MEMBERS_READ,
    ("POST", "api-templates"): MANAGERS_CREATE,
    ("GET", "api-template"): MEMBERS_READ,
    ("PATCH", "api-template"): MANAGERS_CHANGE,
    ("DELETE", "api-template"): MANAGERS_REMOVE,
    ("POST", "api-template-duplicate"): MANAGERS_CREATE,
    ("POST", "api-template-disable"): MANAGERS_CHANGE,
    ("POST", "api-template-enable"): MANAGERS_CHANGE,
    ("GET", "api-template-history"): MANAGERS_CHANGE,
    ("GET", "api-tasks"): MEMBERS_READ,
    ("POST", "api-tasks"): OPERATORS_CREATE,
    ("GET", "api-queue"): MEMBERS_READ,
    ("POST", "api-stop-all"): OPERATORS_CHANGE,
    ("GET", "api-task"): MEMBERS_READ,
    ("GET", "api-task-log"): MEMBERS_READ,
    ("POST", "api-task-stop"): OPERATORS_CHANGE,
    ("POST", "api-task-force-stop"): OPERATORS_CHANGE,
    ("GET", "api-runners"): MEMBERS_READ,
    ("POST", "api-runners"): MANAGERS_CREATE,
    ("GET", "api-runners-all"): EVERY_SIGNED_IN,
    ("GET", "api-runner"): MEMBERS_READ,
    ("DELETE", "api-runner"): MANAGERS_REMOVE,
    ("POST", "api-runner-lift"): MANAGERS_CHANGE,
    ("POST", "api-runner-pause"): MANAGERS_CHANGE,
    ("PATCH", "api-runner"): MANAGERS_CHANGE,
    ("POST", "api-runner-drain"): MANAGERS_DRAIN,
    ("POST", "api-runner-resume"): MANAGERS_CHANGE,
    ("GET", "api-access-keys"): MEMBERS_READ,
    ("POST", "api-access-keys"): MANAGERS_CREATE,
    ("GET", "api-access-key"): MEMBERS_READ,
    ("PATCH", "api-access-key"): MANAGERS_CHANGE,
    ("DELETE", "api-access-key"): MANAGERS_REMOVE,
    ("GET", "api-variable-groups"): MEMBERS_READ,
    ("POST", "api-variable-groups"): MANAGERS_CREATE,
    ("GET", "api-variable-group"): MEMBERS_READ,
    ("PATCH", "api-variable-group"): MANAGERS_CHANGE,
    ("DELETE", "api-variable-group"): MANAGERS_REMOVE,
    ("POST", "api-runner-rotate"): MANAGERS_CHANGE,
    ("POST", "api-runner-end-older-tokens"): MANAGERS_CHANGE,
    ("GET", "api-registration-tokens"): MANAGERS_CHANGE,
    ("POST", "api-registration-tokens"): MANAGERS_CREATE,
    ("GET", "api-registration-token"): MANAGERS_CHANGE,
    ("DELETE", "api-registration-token"): MANAGERS_REMOVE,
    ("GET", "api-members"): MEMBERS_READ,
    ("POST", "api-members"): OWNERS_CREATE,
    ("GET", "api-member"): MEMBERS_READ,
    ("PATCH", "api-member"): OWNERS_CHANGE,
    ("DELETE", "api-member"): OWNERS_REMOVE,
    ("GET", "api-audit"): MANAGERS_CHANGE,
    ("GET", "api-audit-file"): MANAGERS_CHANGE,
    ("GET", "api-audit-all"): ADMINISTRATORS,
    ("GET", "api-audit-all-file"): ADMINISTRATORS,
    ("GET", "api-tokens"): EVERY_SIGNED_IN,
    ("POST", "api-tokens"): (201, 201, 201, 201, 201, 401),
    # A token of the owner's: not even a manager of the same project sees it.
    ("GET", "api-token"): (200, 404, 404, 404, 404, 401),
    ("DELETE", "api-token"): (204, 404, 404, 404, 404, 401),
}
PATHS = {
    "api-projects": "projects/",
    "api-project": "projects/{project}/",
    "api-templates": "projects/{project}/templates/",
    "api-template": "templates/{template}/",
    "api-template-duplicate": "templates/{template}/duplicate",
    "api-template-disable": "templates/{template}/disable",
    "api-template-enable": "templates/{template}/enable",
    "api-template-history": "templates/{template}/history",
    "api-tasks": "projects/{project}/tasks/",
    "api-queue": "projects/{project}/queue",
    "api-stop-all": "projects/{project}/stop-all",
    "api-task": "tasks/{task}/",
    "api-task-log": "tasks/{task}/log",
    "api-task-stop": "tasks/{task}/stop",
    "api-task-force-stop": "tasks/{task}/force-stop",
    "api-runners": "projects/{project}/runners/",
    "api-runners-all": "runners/",
    "api-runner": "runners/{runner}/",
    "api-runner-lift": "runners/{runner}/lift-quarantine",
    "api-runner-pause": "runners/{runner}/pause",
    "api-runner-drain": "runners/{runner}/drain",
    "api-runner-resume": "runners/{runner}/resume",
    "api-access-keys": "projects/{project}/access-keys/",
    "api-access-key": "access-keys/{access_key}/",
    "api-variable-groups": "projects/{project}/variable-groups/",
    "api-variable-group": "variable-groups/{variable_group}/",
    "api-runner-rotate": "runners/{runner}/rotate",
    "api-runner-end-older-tokens": "runners/{runner}/end-older-tokens",
    "api-registration-tokens": "projects/{project}/registration-tokens/",
    "api-registration-token": "registration-tokens/{registration}/",
    "api-members": "projects/{project}/members/",
    "api-member": "members/{member}/",
    "api-audit": "projects/{project}/audit/",
    "api-audit-file": "projects/{project}/audit/csv",
    "api-audit-all": "audit/",
    "api-audit-all-file": "audit/jsonl",
    "api-tokens": "tokens/",
    "api-token": "tokens/{token}/",
}
# Open to everybody, and not about anybody's objects.
PUBLIC = {"api-schema", "api-docs", None}


def body_for(method: str, name: str, template: TaskTemplate) -> dict[str, object]:
    in_an_hour = (timezone.now() + timedelta(hours=1)).isoformat()
    bodies: dict[tuple[str, str], dict[str, object]] = {
        ("POST", "api-projects"): {"name": "New"},
        ("POST", "api-templates"): {"name": "New", "script": "true"},
        ("POST", "api-tasks"): {"template": template.pk},
        ("POST", "api-template-disable"): {"reason": "Replaced"},
        ("POST", "api-runners"): {"name": "new"},
        ("POST", "api-runner-pause"): {"reason": "Kernel update"},
        ("POST", "api-runner-drain"): {"reason": "Kernel update"},
        ("POST", "api-access-keys"): {"name": "new", "kind": "none"},
        ("POST", "api-variable-groups"): {"name": "new"},
        ("POST", "api-runner-rotate"): {"overlap_seconds": 60},
        ("POST", "api-registration-tokens"): {"name": "new", "expires_at": in_an_hour},
        ("POST", "api-members"): {"user_name": "outsider", "role": "viewer"},
        ("POST", "api-tokens"): {"name": "new", "expires_at": in_an_hour},
    }
    return bodies.get((method, name), {})


@pytest.mark.parametrize("who", EVERYBODY)
@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("method", METHODS)
def test_everybody_gets_the_answer_in_the_table(
    method: str,
    name: str,
    who: str,
    cast: Cast,
    template: TaskTemplate,
    runner: Runner,
    task: Task,
    access_key: AccessKey,
    variable_group: VariableGroup,
    registration: RegistrationToken,
    api: Callable[..., Api],
) -> None:
    token = create_user_token(
        user=cast.owner, name="mine", expires_at=None, now=timezone.now()
    ).row.pk
    ids = {"template": template.pk, "runner": runner.pk, "task": task.pk, "token": token}
    ids |= {"registration": registration.pk}
    ids |= {"access_key": access_key.pk, "variable_group": variable_group.pk}
    ids |= {"member": cast.viewers_membership.pk}
    path = PATHS[name].format(project=cast.project.pk, **ids)
    body = None if method == "GET" else body_for(method, name, template)
    answer = api(cast.user(who)).send(method, path, body)
    expected = dict(zip(EVERYBODY, TABLE.get((method, name), NOT_A_METHOD), strict=True))
    assert answer.status_code == expected[who]
    if answer.status_code >= 400:
        assert {"code", "message"} <= answer.json().keys()


def test_the_table_names_every_address() -> None:
    names = {pattern.name for pattern in urlpatterns if isinstance(pattern, URLPattern)}
    assert names - PUBLIC == PATHS.keys()
    assert {name for _, name in TABLE} == PATHS.keys()


def test_lists_hold_nothing_of_other_projects(
    cast: Cast, template: TaskTemplate, api: Callable[..., Api]
) -> None:
    names = [row["name"] for row in api(cast.outsider).get("projects/").json()["results"]]
    assert names == ["Elsewhere"]


def test_a_superuser_sees_every_project(
    superuser: object, cast: Cast, api: Callable[..., Api]
) -> None:
    assert api(superuser).get("projects/").json()["count"] == 2


def test_a_template_of_another_project_cannot_be_run_here(
    cast: Cast, template: TaskTemplate, api: Callable[..., Api]
) -> None:
    path = f"projects/{cast.outsiders_project.pk}/tasks/"
    answer = api(cast.outsider).post(path, {"template": template.pk})
    assert answer.status_code == 400
    assert "template" in answer.json()["fields"]


def test_a_session_works_with_a_csrf_token_and_not_without(cast: Cast) -> None:
    from django.test import Client

    client = Client(enforce_csrf_checks=True)
    client.force_login(cast.owner)
    refused = client.post("/api/v1/projects/", {"name": "A"}, content_type="application/json")
    assert (refused.status_code, refused.json()["code"]) == (403, "csrf_failed")
    token = "a" * 32
    client.cookies["forge_csrf"] = token
    answer = client.post(
        "/api/v1/projects/",
        {"name": "A"},
        content_type="application/json",
        headers={"X-CSRFToken": token},
    )
    assert answer.status_code == 201


@pytest.mark.parametrize(
    "header",
    ["Bearer fgu_unknown", "Bearer fgr_runner", "Bearer", "Basic eDp5", "fgu_x", "Bearer fgu_\xff"],
)
def test_a_wrong_token_is_401_and_says_how_to_sign_in(header: str, cast: Cast) -> None:
    client = Api(None)
    client.headers["authorization"] = header
    answer = client.get("projects/")
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"].startswith("Bearer")


def test_a_token_ends_when_its_time_or_its_user_does(cast: Cast, api: Callable[..., Api]) -> None:
    client = api(None)
    now = timezone.now()
    made, ended = now - timedelta(hours=1), now - timedelta(seconds=1)
    new = create_user_token(user=cast.owner, name="old", expires_at=ended, now=made)
    client.headers["authorization"] = f"Bearer {new.token}"
    assert client.get("projects/").status_code == 401
    live = api(cast.owner)
    cast.owner.is_active = False
    cast.owner.save()
    assert live.get("projects/").status_code == 401
