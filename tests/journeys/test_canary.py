"""A marked secret is searched for in everything that anybody can be shown.

It is entered in every way there is, rightly and wrongly; tasks that hold it succeed, fail, are
stopped, cannot be started, and lack the key it is stored under. Then every page, every answer of
the API, the whole admin, error pages, downloads, live streams and Flower are read as an owner and
as a superuser would, and every file, broker key, log and process is searched. It is found nowhere.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, urljoin

import psutil
import pytest
import redis
import requests

from tests.broker import free_port
from tests.deployment.client import wait_for
from tests.deployment.deployment import ROOT, Deployment, Worker

# Each of these characters is written otherwise in one of the forms.
CANARY = "can<ary&7/Qz+'9\"é %kW"
LINES = [f"canaryLine{number:02d}" + "Ab9/" * 10 for number in range(4)]
PRIVATE_KEY = "\n".join(
    ["-----BEGIN OPENSSH PRIVATE KEY-----", *LINES, "-----END OPENSSH PRIVATE KEY-----", ""]
)
OWNER = "canary-owner"
PASSWORD = "correct horse battery"
MOST_PAGES = 4000
# Filters and sort orders of the admin multiply; one of each is read.
MOST_QUERIES_OF_A_PAGE = 3


def forms(secret: str) -> set[bytes]:
    """How the secret may be written: raw, base64 at any place, quoted, escaped."""
    raw = secret.encode()
    texts = {secret, quote(secret), quote(secret, safe=""), quote_plus(secret)}
    texts |= {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    texts |= {html.escape(secret), html.escape(secret, quote=False), repr(secret)[1:-1]}
    found = {text.encode() for text in texts}
    # As JSON in an attribute of a page.
    found |= {html.escape(text).encode() for text in (json.dumps(secret)[1:-1],)}
    for place in range(3):
        # Inside of a longer text: the letters at both ends depend on the neighbours.
        encoded = base64.b64encode(b"x" * place + raw)
        found.add(encoded[4 if place else 0 : -4])
        found.add(encoded[4 if place else 0 : -4].translate(bytes.maketrans(b"+/", b"-_")))
    return found


WANTED = {form for secret in (CANARY, *LINES) for form in forms(secret)}


def traces(data: bytes) -> list[bytes]:
    return [form for form in WANTED if form in data]


def test_the_search_finds_what_it_is_for() -> None:
    for secret in (CANARY, LINES[2]):
        shown = [secret, html.escape(secret), json.dumps({"a": secret}), quote(secret)]
        shown += [base64.b64encode(f"{'-' * n}{secret}-".encode()).decode() for n in range(4)]
        assert all(traces(f"before {text} after".encode()) for text in shown)
    assert not traces(b"nothing of it")


# --- reading everything ---


@dataclass
class Reader:
    """A signed-in browser that reads and keeps what shows the canary."""

    url: str
    username: str
    password: str
    shown: list[str] = field(default_factory=list)
    read: dict[str, int] = field(default_factory=dict)
    session: requests.Session = field(default_factory=requests.Session)

    def sign_in(self) -> None:
        self.session.trust_env = False
        fields = {"username": self.username, "password": self.password}
        self.send("/sign-in/", fields)
        assert self.get("/").url == f"{self.url}/"

    def get(self, path: str, **options: Any) -> requests.Response:
        answer = self.session.get(f"{self.url}{path}", timeout=60, **options)
        self.note(f"GET {path}", answer)
        return answer

    def send(self, path: str, fields: dict[str, Any]) -> requests.Response:
        """Fill in the form of a page, whatever it says of it."""
        page = self.session.get(f"{self.url}{path}", timeout=60).text
        token = self.session.cookies.get("forge_csrf", "")
        if match := re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page):
            token = match[1]
        data = {**fields, "csrfmiddlewaretoken": token}
        answer = self.session.post(f"{self.url}{path}", data=data, timeout=60)
        self.note(f"POST {path}", answer)
        return answer

    def note(self, what: str, answer: requests.Response) -> None:
        self.read[what] = answer.status_code
        said = answer.content + str(answer.headers).encode() + answer.url.encode()
        self.shown += [f"{what} ({answer.status_code}): {form!r}" for form in traces(said)]

    def crawl(self) -> None:
        """Every link from the start pages, in forms and tables too; nothing is sent."""
        waiting, seen = deque(["/", "/admin/"]), {"/", "/admin/"}
        queries: dict[str, int] = {}
        while waiting and len(seen) < MOST_PAGES:
            path = waiting.popleft()
            answer = self.get(path)
            if "html" not in answer.headers.get("Content-Type", ""):
                continue
            for link in re.findall(r'(?:href|action|hx-get|src)="([^"]+)"', answer.text):
                place = self.place_of(urljoin(f"{self.url}{path}", html.unescape(link)))
                page, _, query = place.partition("?")
                queries[page] = queries.get(page, 0) + (1 if query and place not in seen else 0)
                if place and place not in seen and queries[page] <= MOST_QUERIES_OF_A_PAGE:
                    seen.add(place)
                    waiting.append(place)
        assert not waiting, "there are more pages than expected"

    def place_of(self, link: str) -> str:
        """The path of a link to a page of Forge's; empty for others, and for signing out."""
        found = link.partition("#")[0]
        if not found.startswith(f"{self.url}/") or "/static/" in found:
            return ""
        place = found.removeprefix(self.url)
        is_left_out = place.endswith("/stream") or "/sign-out" in place or "/logout" in place
        return "" if is_left_out else place

    def listen(self, path: str, until: bytes) -> None:
        """Read a live stream up to a word in it."""
        heard = b""
        with self.session.get(f"{self.url}{path}", stream=True, timeout=60) as answer:
            for piece in answer.iter_content(None):
                heard += piece
                if until in heard:
                    break
        # What is in base64 is a log's bytes; they are read as they are, too.
        for packed in re.findall(rb'"data": "([^"]*)"', heard):
            heard += base64.b64decode(packed)
        self.read[f"GET {path}"] = 200
        self.shown += [f"GET {path}: {form!r}" for form in traces(heard)]


def read_api(reader: Reader, token: str, most: int) -> None:
    """Every GET of the schema, with every number that there may be."""
    headers = {"Authorization": f"Bearer {token}"}
    schema = reader.session.get(f"{reader.url}/api/schema/", timeout=60).json()
    paths = [path for path, methods in schema["paths"].items() if "get" in methods]
    assert len(paths) > 15
    for path in paths:
        numbers = range(1, most + 1) if "{" in path else [1]
        for number in numbers:
            reader.get(re.sub(r"\{[^}]+\}", str(number), path), headers=headers)


# --- entering it, rightly and wrongly ---


@dataclass
class Entered:
    project: int
    fields: dict[str, Any]
    template: int


def enter(forge: Deployment) -> Entered:
    # The demo runner is this project's; it is there after a restart, too.
    project = int(forge.place["project_id"])
    secrets = {"API_TOKEN": CANARY}
    group = forge.api.variable_group(project, "canaries", secrets=secrets)
    uses = []
    given: dict[str, dict[str, Any]] = {
        "string": {"value": CANARY},
        "login_password": {"login": "me", "password": CANARY},
        "ssh": {"login": "deploy", "private_key": PRIVATE_KEY, "passphrase": CANARY},
    }
    for kind, parts in given.items():
        key = forge.api.access_key(project, f"key {kind}", kind, **parts)
        uses.append({"access_key": key, "variable": f"KEY_{kind.upper()}"})
    fields = {"variable_groups": [group], "access_keys": uses}
    return Entered(project, fields, forge.api.template(project, "echo $API_TOKEN", **fields))


def enter_wrongly(reader: Reader, entered: Entered, token: str) -> None:
    """Each answer says what is wrong with what was sent, and must not repeat the secret in it."""
    project = entered.project
    headers = {"Authorization": f"Bearer {token}"}
    bodies: list[tuple[str, Any]] = [
        ("access-keys", {"name": "", "kind": "string", "value": CANARY}),
        ("access-keys", {"name": "key string", "kind": "string", "value": CANARY}),
        ("access-keys", {"name": "x", "kind": "no-such", "value": CANARY}),
        ("access-keys", {"name": "x", "kind": "ssh", "login": "x", "private_key": CANARY}),
        ("access-keys", {"name": "x", "kind": "string", "value": [CANARY]}),
        ("access-keys", {"name": "x", "kind": "none", "value": CANARY}),
        ("access-keys", {"name": "x", "kind": "string", "value": f"{CANARY}\x00"}),
        ("variable-groups", {"name": "canaries", "secrets": {"A": CANARY}}),
        ("variable-groups", {"name": "x", "secrets": {"no name": CANARY}}),
        ("variable-groups", {"name": "x", "secrets": [CANARY]}),
        ("variable-groups", {"name": "x", "secrets": {"A": {"b": CANARY}}}),
        ("variable-groups", {"name": "x", "secrets": {"A": f"{CANARY}\x00"}}),
        ("variable-groups", {"name": "x", "secrets": CANARY}),
    ]
    for noun, body in bodies:
        url = f"{reader.url}/api/v1/projects/{project}/{noun}/"
        answer = requests.post(url, json=body, headers=headers, timeout=60)
        assert answer.status_code >= 400, (body, answer.text)
        reader.note(f"POST {noun} {sorted(body)}", answer)
        broken = requests.post(url, data=f"{{{CANARY}".encode(), headers=headers, timeout=60)
        reader.note(f"POST {noun} broken", broken)
    parts = {"value": CANARY, "password": CANARY, "passphrase": CANARY, "private_key": PRIVATE_KEY}
    for kind in ("", "string", "login_password", "ssh", "none", "no-such"):
        fields = {"name": "", "kind": kind, "login": "", **parts}
        reader.send(f"/projects/{project}/access-keys/new/", fields)
        reader.send("/admin/projects/accesskey/add/", {"project": project, **fields})
    secret = {"new_name_0": "no name", "new_value_0": CANARY, "new_value_1": CANARY}
    secret |= {"set_name": "no name", "set_value": CANARY, "variables": "no line of a variable"}
    for path in (f"/projects/{project}/variable-groups/new/", "/admin/projects/variablegroup/add/"):
        reader.send(path, {"name": "", "project": project, **secret})
        reader.send(path, {"name": "canaries", "project": project, **secret, "new_name_0": "A"})


def run_all(forge: Deployment, entered: Entered) -> list[int]:
    """Tasks that hold the canary and end in every way."""
    leak = 'echo "$API_TOKEN" "$KEY_STRING"; cat "$KEY_SSH_FILE"; env | sort; '
    scripts = {
        "succeeds": leak,
        "fails": leak + "exit 3",
        "stopped": leak + "echo end of it; sleep 1000",
        "too long": leak + "sleep 1000",
    }
    tasks = {}
    for name, script in scripts.items():
        limit = {"timeout_seconds": 3} if name == "too long" else {}
        fields = {"app": "bash", **entered.fields, **limit}
        tasks[name] = forge.api.run_script(entered.project, script, name=name, **fields)
    path = forge.api.variable_group(
        entered.project, "no path", secrets={"PATH": f"/nowhere/{CANARY}"}
    )
    lost = forge.api.run_script(entered.project, "no-such-program", variable_groups=[path])
    forge.api.await_output(tasks["stopped"], b"end of it")
    forge.api.post(f"tasks/{tasks['stopped']}/stop")
    ended = forge.api.finished([*tasks.values(), lost])
    assert [one["state"] for one in ended[:4]] == ["succeeded", "failed", "stopped", "failed"]
    assert b"[masked]" in forge.api.log(tasks["succeeds"])
    return [one["id"] for one in ended]


# --- a web process whose errors are seen ---


@contextmanager
def another_web(forge: Deployment, folder: Path, **variables: str) -> Iterator[str]:
    """One more web process of the same deployment; its output is in `folder`."""
    known = json.loads((forge.data / "secrets.json").read_text())
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "SECRET_KEY": known["secret_key"],
        "FORGE_SECRETS_KEY": known["secrets_key"],
        "DATABASE_URL": f"sqlite:///{forge.data / 'forge.sqlite3'}",
        "REDIS_URL": forge.place["broker_url"],
        **variables,
    }
    command = [sys.executable, "manage.py", "web", "--port", str(port)]
    with (folder / f"web-{port}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, (folder / f"web-{port}.log").read_text()
        with suppress(requests.RequestException):
            return requests.get(f"{url}/healthz", timeout=5).ok
        return False

    try:
        wait_for(answers, "the other web process answers")
        yield url
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def without_table(forge: Deployment, table: str) -> Iterator[None]:
    """Whatever writes to the table fails in the middle of its work."""
    file = forge.data / "forge.sqlite3"
    with sqlite3.connect(file, timeout=60) as database:
        database.execute(f"ALTER TABLE {table} RENAME COLUMN secret TO secret_gone")
    try:
        yield
    finally:
        with sqlite3.connect(file, timeout=60) as database:
            database.execute(f"ALTER TABLE {table} RENAME COLUMN secret_gone TO secret")


def force_errors(reader: Reader, forge: Deployment, entered: Entered, token: str) -> None:
    """404, 403, 400, and 500 in the middle of storing the secret."""
    assert reader.get("/no/such/page/").status_code == 404
    assert reader.get("/", headers={"Host": "elsewhere.example"}).status_code == 400
    refused = reader.session.post(f"{reader.url}/", data={"name": CANARY}, timeout=60)
    assert refused.status_code == 403
    reader.note("POST / without its CSRF token", refused)
    name = f"errors {time.monotonic_ns()}"
    fields = {"name": name, "kind": "string", "value": CANARY}
    new = f"/projects/{entered.project}/access-keys/new/"
    headers = {"Authorization": f"Bearer {token}"}
    with without_table(forge, "projects_accesskey"):
        assert reader.send(new, fields).status_code == 500
        # The admin is for staff; its form has the project to choose as well.
        form = {**fields, "project": str(entered.project)}
        expected = 403 if reader.username == OWNER else 500
        assert reader.send("/admin/projects/accesskey/add/", form).status_code == expected
        url = f"{reader.url}/api/v1/projects/{entered.project}/access-keys/"
        failed = requests.post(url, json=fields, headers=headers, timeout=60)
        assert failed.status_code in (500, 503)
        reader.note("POST access-keys, failing", failed)
    with without_table(forge, "projects_secretvariable"):
        url = f"{reader.url}/api/v1/projects/{entered.project}/variable-groups/"
        body = {"name": name, "secrets": {"A": CANARY}}
        failed = requests.post(url, json=body, headers=headers, timeout=60)
        assert failed.status_code in (500, 503)
        reader.note("POST variable-groups, failing", failed)


# --- where else it could be ---


def hidden_places(forge: Deployment, worker: Worker, logs: Path) -> list[str]:
    folders = (forge.folder, worker.log.parent, logs)
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    found = [str(path) for path in files if traces(path.read_bytes())]
    with redis.Redis.from_url(forge.place["broker_url"]) as broker:
        found += [f"key {key!r}" for key in broker.scan_iter() if traces(broker.dump(key) or b"")]
    for process in psutil.process_iter():
        for name in ("cmdline", "environ"):
            with suppress(OSError):
                path = Path(f"/proc/{process.pid}/{name}")
                found += [str(path)] if traces(path.read_bytes()) else []
    return found


def make_owner(forge: Deployment, project: int) -> str:
    """A user who owns the project and nothing else, made in the admin; returns an API token."""
    place = forge.place
    admin = Reader(place["url"], place["username"], place["password"])
    admin.sign_in()
    made = {"username": OWNER, "usable_password": "true"}
    made |= {"password1": PASSWORD, "password2": PASSWORD}
    assert admin.send("/admin/auth/user/add/", made).ok
    page = admin.get("/admin/projects/membership/add/").text
    (user,) = re.findall(rf'<option value="(\d+)"[^>]*>{OWNER}<', page) or ["2"]
    fields = {"project": str(project), "user": user, "role": "owner"}
    assert admin.send("/admin/projects/membership/add/", fields).ok
    owner = Reader(place["url"], OWNER, PASSWORD)
    owner.sign_in()
    made_token = owner.send("/tokens/", {"name": "canary", "lifetime": "604800"})
    return str(re.findall(r"fgu_[\w-]{43}", made_token.text)[0])


def crawl_flower(forge: Deployment, node: str) -> list[str]:
    place = forge.place
    reader = Reader(place["flower_url"], "", "")
    reader.session.auth = (place["username"], place["password"])
    reader.session.trust_env = False
    tasks = reader.get("/api/tasks").json()
    for path in ("/", "/tasks", "/broker", "/metrics", "/api/workers?refresh=1", f"/worker/{node}"):
        reader.get(path)
    for uuid in tasks:
        reader.get(f"/task/{uuid}")
    assert len(tasks) > 4
    return reader.shown


def restart_without_the_key(forge: Deployment) -> str:
    forge.stop()
    path = forge.data / "secrets.json"
    known = json.loads(path.read_text())
    path.write_text(
        json.dumps({**known, "secrets_key": base64.urlsafe_b64encode(b"k" * 32).decode()})
    )
    (forge.folder / "quickstart.log").unlink()
    forge.start()
    return str(known["secrets_key"])


@pytest.fixture
def heard(forge: Deployment) -> Iterator[list[bytes]]:
    """Every command that the broker got meanwhile."""
    commands: list[bytes] = []

    def listen(monitor: Any) -> None:
        with suppress(redis.RedisError, OSError, ValueError, AttributeError):
            for command in monitor.listen():
                commands.append(str(command).encode())  # noqa: PERF401  # read while it grows

    with redis.Redis.from_url(forge.place["broker_url"]) as broker, broker.monitor() as monitor:
        threading.Thread(target=listen, args=(monitor,), daemon=True).start()
        yield commands


def test_nobody_and_nothing_shows_the_canary(
    forge: Deployment, heard: list[bytes], tmp_path: Path
) -> None:
    place = forge.place
    entered = enter(forge)
    runner = forge.api.runner(entered.project, "canary-1", concurrency=4)
    worker = forge.worker(runner)
    owner_token = make_owner(forge, entered.project)
    tasks = run_all(forge, entered)

    readers = [Reader(place["url"], OWNER, PASSWORD)]
    readers += [Reader(place["url"], place["username"], place["password"])]
    for reader, token in zip(readers, (owner_token, place["api_token"]), strict=True):
        reader.sign_in()
        reader.crawl()
        read_api(reader, token, most=max(tasks) + 3)
        enter_wrongly(reader, entered, token)
        for task in tasks:
            reader.get(f"/tasks/{task}/log")
            reader.listen(f"/tasks/{task}/stream", until=b"event: log")
        force_errors(reader, forge, entered, token)
        assert not reader.shown
    assert heard and not [command for command in heard if traces(command)]
    assert not crawl_flower(forge, f"runner-{runner.id}@canary-1")

    # With DEBUG, which shows a developer the insides of an error.
    with another_web(forge, tmp_path, DEBUG="True") as url:
        reader = Reader(url, place["username"], place["password"])
        reader.sign_in()
        force_errors(reader, forge, entered, place["api_token"])
        enter_wrongly(reader, entered, place["api_token"])
        shown = reader.get("/no/such/page/").text
        assert "URLconf" in shown, "DEBUG is not on"
        assert not reader.shown
    worker.end()
    key = restart_without_the_key(forge)
    failed = forge.api.wait_until(forge.api.run(entered.project, entered.template))
    assert failed["state"] == "failed" and "cannot be read" in failed["reason"]
    place = forge.place
    reader = Reader(place["url"], place["username"], place["password"])
    reader.sign_in()
    reader.crawl()
    read_api(reader, place["api_token"], most=max(tasks) + 6)
    assert not reader.shown
    assert not hidden_places(forge, worker, tmp_path)
    assert key not in json.dumps(forge.place)

    # That all of it was read.
    seen = {path for one in (*readers, reader) for path in one.read}
    for path in ("accesskey", "variablegroup", "secretvariable", "templateaccesskey"):
        pages = [one for one in seen if f"/{path}/" in one]
        assert any("/change/" in one for one in pages), path
    for word in ("/history/", "/delete/", "/remove/", "/rotate/", "/stream", "/log", "?"):
        assert any(word in one for one in seen), word
    print(f"{len(seen)} addresses read, {len(WANTED)} forms of the secret searched for")
