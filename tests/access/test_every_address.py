"""Every address of Forge, every method, everybody who may knock: who gets which answer.

Addresses come from Django's resolver, so that a new one without an entry here fails. Answers to
members of a project stand in the tables of `tests/pages/test_pages_access.py` and
`tests/api/test_api_access.py`; here they are asked for by everybody else too, and with every
other kind of credential: a session where a token belongs, a token where a session belongs, a
runner's token, a registration token, staff, a superuser.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator
from django.apps import apps
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from forge.asgi import application
from forge.pages.sign_in import per_account, per_address
from projects.models import AccessKey, VariableGroup
from projects.operations import create_user_token
from runners import quotas, tunnel
from runners.models import RegistrationToken, Runner
from runners.operations import create_runner
from runners.registration import create_registration_token
from tasks.models import Task, TaskTemplate
from tests.api import test_api_access as api_table
from tests.cast import EVERYBODY, MEMBERS, Cast
from tests.pages import test_pages_access as page_table

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
SESSIONS = (*MEMBERS, "outsider", "staff", "superuser")
TOKENS = tuple(f"token of {name}" for name in SESSIONS)
STRANGERS = ("nobody", "runner", "registration", "nonsense")
WHO = (*SESSIONS, *TOKENS, *STRANGERS)

# Objects that are a user's own, whatever else that user may do.
PERSONAL = {"token-revoke", "api-token"}
# What answers everybody alike. The catch-all of the API is 404, the sign-in form is a form.
OPEN: dict[str, dict[str, Any]] = {
    "sign-in": {"GET": 200, "HEAD": 200, "POST": 200, "PUT": 200, "OPTIONS": 200},
    "favicon": dict.fromkeys(METHODS, 405) | {"GET": 302, "HEAD": 302},
    "healthz": dict.fromkeys(METHODS, 200),
    "readyz": dict.fromkeys(METHODS, (200, 503)),
    "runner-wheel": dict.fromkeys(METHODS, 405) | {"GET": 200, "HEAD": 200},
    "api-schema": dict.fromkeys(METHODS, 405) | {"GET": 200, "HEAD": 200, "OPTIONS": 405},
    "api-docs": dict.fromkeys(METHODS, 405) | {"GET": 200, "HEAD": 200, "OPTIONS": 405},
    "api/": dict.fromkeys(METHODS, 404),
}
RUNNER_API = ("connect", "claim", "report", "heartbeat", "verify", "unregister")


@dataclass(frozen=True)
class Address:
    """One pattern: where it is, and its name; unnamed ones go by their path."""

    route: str
    name: str


def addresses(resolver: URLResolver, prefix: str = "", space: str = "") -> Iterator[Address]:
    for pattern in resolver.url_patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLPattern):
            yield Address(route, f"{space}{pattern.name}" if pattern.name else route)
        else:
            inner = f"{pattern.namespace}:" if pattern.namespace else ""
            yield from addresses(pattern, route, space + inner)


ALL = list(addresses(get_resolver()))


@dataclass
class Callers:
    """Sends requests as anybody of WHO; what a request changes is undone."""

    ids: dict[str, int]
    users: dict[str, User]
    headers: dict[str, dict[str, str]]
    body: Callable[[str, str], dict[str, object]]
    clients: dict[str, Client] = field(default_factory=dict)

    def client(self, who: str) -> Client:
        if who not in self.clients:
            client = Client(raise_request_exception=False)
            if who in SESSIONS:
                client.force_login(self.users[who])
            self.clients[who] = client
        return self.clients[who]

    def status(self, who: str, method: str, path: str, name: str) -> int:
        for quota in (quotas.wrong_tokens, quotas.requests, per_account, per_address):
            quota.forget()
        options: dict[str, Any] = {"headers": self.headers.get(who, {})}
        if name.startswith("api-") and method != "GET":
            options |= {"content_type": "application/json"}
            options["data"] = self.body(method, name)
        client = self.client(who)
        # Signing out in one request must not sign out the next one.
        cookies = deepcopy(client.cookies)
        with transaction.atomic():
            status = int(getattr(client, method.lower())(path, **options).status_code)
            transaction.set_rollback(True)
        client.cookies = cookies
        return status


@pytest.fixture
def callers(
    cast: Cast,
    superuser: User,
    template: TaskTemplate,
    runner: Runner,
    task: Task,
    access_key: AccessKey,
    variable_group: VariableGroup,
    registration: RegistrationToken,
) -> Callers:
    now = timezone.now()
    staff = User.objects.create_user("staff", is_staff=True)
    users = {name: getattr(cast, name) for name in (*MEMBERS, "outsider")}
    users |= {"staff": staff, "superuser": superuser}

    def token(name: str) -> Any:
        return create_user_token(user=users[name], name="walk", expires_at=None, now=now)

    tokens = {f"token of {name}": token(name).token for name in users}
    own = create_user_token(user=cast.owner, name="mine", expires_at=None, now=now).row.pk
    settings: dict[str, Any] = {"tags": [], "concurrency": 1, "takes_untagged": True, "now": now}
    settings |= {"project": cast.project, "by": cast.owner}
    tokens["runner"] = create_runner(name="web-9", **settings).token
    several: dict[str, Any] = {"max_uses": 9, "expires_at": now + timedelta(hours=1)}
    tokens["registration"] = create_registration_token(name="walk", **several, **settings).token
    tokens["nonsense"] = "fgu_" + "x" * 43
    ids = {"project": cast.project.pk, "template": template.pk, "runner": runner.pk}
    ids |= {"task": task.pk, "registration": registration.pk, "token": own}
    ids |= {"access_key": access_key.pk, "variable_group": variable_group.pk}
    ids |= {"member": cast.viewers_membership.pk}
    headers = {who: {"Authorization": f"Bearer {clear}"} for who, clear in tokens.items()}

    def body(method: str, name: str) -> dict[str, object]:
        return api_table.body_for(method, name, template)

    return Callers(ids, users, headers, body)


def column(who: str, name: str) -> str:
    """Which of the tables' columns is about `who`."""
    if who in ("staff", "superuser"):
        # A superuser is like an owner of everything, but for what is another user's own.
        return "owner" if who == "superuser" and name not in PERSONAL else "outsider"
    return who


def expected_of_page(who: str, method: str, name: str) -> int:
    """A session opens pages; a token of any kind is nobody's."""
    method = "GET" if method == "HEAD" else method
    answers = page_table.TABLE.get((method, name), page_table.NOT_A_METHOD)
    if who == "superuser" and answers is page_table.ADMINISTRATORS:
        return 200
    who = column(who, name) if who in SESSIONS else "nobody"
    return dict(zip(EVERYBODY, answers, strict=True))[who]


def expected_of_api(who: str, method: str, name: str) -> int:
    """A session and a user's token are the same user; other tokens are nobody's."""
    method = "GET" if method == "HEAD" else method
    answers = api_table.TABLE.get((method, name), api_table.NOT_A_METHOD)
    if who.removeprefix("token of ") == "superuser" and answers is api_table.ADMINISTRATORS:
        return 200
    known = who in SESSIONS or who in TOKENS
    who = column(who.removeprefix("token of "), name) if known else "nobody"
    return dict(zip(EVERYBODY, answers, strict=True))[who]


def expected_of_stream(who: str, method: str) -> int:
    """The log and its live stream: for members, by session; others learn nothing."""
    if method != "GET":
        return 405
    if who not in SESSIONS:
        return 401
    return 404 if who in ("outsider", "staff") else 200


def expected_of_runner(who: str, method: str, name: str) -> int:
    """The message is sent empty: to be told that it is malformed is to be let in."""
    if method != "POST":
        return 405
    return 400 if who == ("registration" if name == "register" else "runner") else 401


def wrong(
    callers: Callers, path: str, name: str, expected: Callable[[str, str], int | tuple[int, ...]]
) -> list[str]:
    """Every (who, method) whose answer is not the expected one."""
    found = []
    for who in WHO:
        for method in METHODS:
            answer, wanted = callers.status(who, method, path, name), expected(who, method)
            if answer not in (wanted if isinstance(wanted, tuple) else (wanted,)):
                found.append(f"{who}: {method} {path} is {answer}, not {wanted}")
    return found


PAGES = {one.name for one in ALL if one.name in page_table.PATHS}
API = {one.name for one in ALL if one.name in api_table.PATHS}
STREAMS = {"task-stream": "/tasks/{task}/stream", "task-log": "/tasks/{task}/log"}
RUNNERS = {f"runner/v1/{name}" for name in (*RUNNER_API, "register")}
ADMIN: set[Address] = {one for one in ALL if one.route.startswith("admin/")}


def test_every_address_of_forge_has_an_entry() -> None:
    entries = PAGES | API | STREAMS.keys() | RUNNERS | OPEN.keys() | {"sign-out"}
    missing = [one for one in ALL if one.name not in entries and one not in ADMIN]
    assert not missing
    assert not entries - {one.name for one in ALL}, "an entry for an address that is gone"


@pytest.mark.parametrize("name", sorted(PAGES))
def test_pages(name: str, callers: Callers) -> None:
    path = page_table.PATHS[name].format(**callers.ids)
    assert not wrong(callers, path, name, lambda who, how: expected_of_page(who, how, name))


@pytest.mark.parametrize("name", sorted(API))
def test_api(name: str, callers: Callers) -> None:
    path = "/api/v1/" + api_table.PATHS[name].format(**callers.ids)
    assert not wrong(callers, path, name, lambda who, how: expected_of_api(who, how, name))


@pytest.mark.parametrize("name", sorted(STREAMS))
def test_logs(name: str, callers: Callers) -> None:
    path = STREAMS[name].format(**callers.ids)
    assert not wrong(callers, path, name, expected_of_stream)


@pytest.mark.parametrize("name", [*RUNNER_API, "register"])
def test_runner_api(name: str, callers: Callers) -> None:
    path = f"/runner/v1/{name}"
    assert not wrong(callers, path, name, lambda who, how: expected_of_runner(who, how, name))


@pytest.mark.parametrize("name", sorted(OPEN))
def test_open_to_everybody(name: str, callers: Callers) -> None:
    (route,) = (one.route for one in ALL if one.name == name)

    def expected(who: str, method: str) -> int | tuple[int, ...]:
        if name == "sign-in" and who in SESSIONS:
            return 302  # home
        answer: int | tuple[int, ...] = OPEN[name].get(method, 405)
        return answer

    assert not wrong(callers, f"/{route}", name, expected)


def test_signing_out(callers: Callers) -> None:
    def expected(who: str, method: str) -> int:
        return {"POST": 302, "OPTIONS": 200}.get(method, 405)

    assert not wrong(callers, "/sign-out/", "sign-out", expected)


# --- the admin ---


def route_of(address: Address) -> str:
    return address.route


IN_THE_ADMIN: list[Address] = sorted(ADMIN, key=route_of)


def admin_path(address: Address, ids: dict[str, int]) -> str:
    """The pattern with the ids of real rows, where a row is named."""
    path = address.route.replace("<path:content_type_id>/<path:object_id>", "1/1")
    path = path.replace("^(?P<app_label>auth|projects|runners|tasks)/$", "tasks/")
    path = path.replace("(?P<url>.*)$", "no/such/page/")
    if "<path:object_id>" in path or "<id>" in path:
        app, model = path.split("/")[1:3]
        row = apps.get_model(app, model)._default_manager.first()
        path = path.replace("<path:object_id>", str(row.pk if row else 1))
        path = path.replace("<id>", str(row.pk if row else 1))
    return f"/{path}"


# Not about anybody's objects but the member of staff.
STAFFS_OWN = {
    f"admin:{name}" for name in ("index", "jsi18n", "password_change", "password_change_done")
}


DOORS = {"admin:login", "admin/login/", "admin/password_change/", "admin:logout", "admin/logout/"}


def expected_of_admin(who: str, method: str, name: str) -> tuple[int, ...]:
    """Whoever is not staff is sent to the sign-in; staff without rights is refused."""
    if name in DOORS:
        # Forge's own sign-in stands before them; whoever has no business there is told so.
        return (200, 302, 403, 405)
    if who not in ("staff", "superuser"):
        return (302,)
    # How to use the search of a form, which is no secret; the search itself is refused.
    is_about = method == "OPTIONS" and name == "admin:autocomplete"
    if who == "staff" and name not in STAFFS_OWN and not is_about:
        return (302, 403, 404, 405)
    return (200, 302, 400, 403, 404, 405)


@pytest.mark.parametrize("address", IN_THE_ADMIN, ids=route_of)
def test_admin(address: Address, callers: Callers) -> None:
    path = admin_path(address, callers.ids)
    name = address.name
    assert not wrong(callers, path, name, lambda who, how: expected_of_admin(who, how, name))
    opened = callers.status("superuser", "GET", path, name)
    assert opened in (200, 302, 403, 404, 405), f"{path} is {opened} for a superuser"


# --- what Django never sees ---


async def handshake(path: str, headers: dict[str, str]) -> int | None:
    """The status with which a WebSocket is refused; None if it is closed before it opens."""
    found = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope: dict[str, Any] = {
        "type": "websocket",
        "path": path,
        "headers": found,
        "client": ["127.0.0.1", 9],
    }
    scope |= {
        "extensions": {"websocket.http.response": {}},
        "subprotocols": [],
        "query_string": b"",
    }
    communicator = ApplicationCommunicator(application, scope)
    await communicator.send_input({"type": "websocket.connect"})
    answer = await communicator.receive_output(timeout=60)
    assert answer["type"] in ("websocket.close", "websocket.http.response.start"), answer
    status: int | None = answer.get("status")
    return status


@pytest.mark.django_db(transaction=True)
def test_the_tunnel_opens_for_runners_only_and_no_other_address_takes_websockets(
    callers: Callers,
) -> None:
    """That it opens for a runner is tried with a real broker in tests/attacks/test_tunnel.py."""
    for who in (*TOKENS, "registration", "nonsense", "nobody"):
        quotas.wrong_tokens.forget()
        refused = async_to_sync(handshake)(tunnel.PATH, callers.headers.get(who, {}))
        assert refused == 401, who
    paths = {re.sub(r"<[^>]*>|[\\^$].*", "1", f"/{one.route}") for one in ALL}
    for path in sorted(paths - {tunnel.PATH}):
        assert async_to_sync(handshake)(path, callers.headers["runner"]) is None, path


async def of_static(path: str) -> dict[str, Any]:
    """The beginning of the answer to a request for a static file."""
    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}
    scope |= {"raw_path": path.encode(), "scheme": "http", "server": ["127.0.0.1", 80]}
    scope |= {"client": ["127.0.0.1", 9], "http_version": "1.1", "root_path": ""}
    communicator = ApplicationCommunicator(application, scope)
    await communicator.send_input({"type": "http.request", "body": b""})
    answer: dict[str, Any] = await communicator.receive_output(timeout=60)
    return answer


@pytest.mark.parametrize(
    "path", ["/static/../manage.py", "/static/..%2fmanage.py", "/static//etc/passwd", "/static/"]
)
def test_static_files_are_those_of_forge_and_no_others(path: str) -> None:
    assert async_to_sync(of_static)(path)["status"] in (400, 404)


def test_no_browser_guesses_what_a_static_file_is() -> None:
    answer = async_to_sync(of_static)("/static/forge/forge.css")
    assert answer["status"] == 200
    assert (b"x-content-type-options", b"nosniff") in [
        (name.lower(), value) for name, value in answer["headers"]
    ]
