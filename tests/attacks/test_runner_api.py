"""The runner API against a thief with one runner's token: nothing succeeds, nothing breaks."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as some

from tests.attacks.conftest import Thief
from tests.deployment.deployment import Deployment

PATHS = ["connect", "claim", "report", "heartbeat", "verify"]
SCRIPT = "echo begun; while [ ! -e {gate} ]; do sleep 0.05; done; echo done"


@pytest.fixture
def running(forge: Deployment, tmp_path: Path) -> Iterator[int]:
    """A task of the demo runner that runs until the test is over, and must end well then."""
    gate = tmp_path / "gate"
    task = forge.api.run_script(forge.place["project_id"], SCRIPT.format(gate=gate))
    forge.api.await_output(task, b"begun")
    yield task
    gate.touch()
    ended = forge.api.wait_until(task)
    assert (ended["state"], ended["log_complete"]) == ("succeeded", True)
    assert forge.api.log(task) == b"begun\ndone\n"


def piece(task: int, text: bytes, offset: int = 0, attempt: int = 1) -> dict[str, Any]:
    data = base64.b64encode(text).decode()
    return {"task": task, "attempt": attempt, "offset": offset, "data": data}


def result(task: int, log: bytes = b"", attempt: int = 1) -> dict[str, Any]:
    return {
        "task": task,
        "attempt": attempt,
        "outcome": "failed",
        "exit_code": 1,
        "reason": "forged",
        "log_bytes": len(log),
        "log_sha256": hashlib.sha256(log).hexdigest(),
        "age_seconds": 0.0,
    }


@pytest.mark.parametrize("who", ["thief", "sibling"])
def test_nobody_else_can_write_to_a_running_task(
    who: str, running: int, forge: Deployment, request: pytest.FixtureRequest
) -> None:
    attacker: Thief = request.getfixturevalue(who)
    answer = attacker.report(
        started=[{"task": running, "attempt": 1, "age_seconds": 5.0}],
        pieces=[piece(running, b"forged"), piece(running, b"forged", offset=6)],
        results=[result(running), result(running, b"begun\n")],
    )
    assert answer.ok
    # The receipt of a foreign task says as much as that of one that does not exist.
    assert answer.json()["receipts"] == [
        {"task": running, "attempt": 1, "is_held": False, "log_bytes": 0, "is_finished": False}
    ]
    assert forge.api.task(running)["state"] == "running"


@pytest.mark.parametrize("who", ["thief", "sibling"])
def test_nobody_else_can_claim_a_running_task(
    who: str, running: int, request: pytest.FixtureRequest
) -> None:
    attacker: Thief = request.getfixturevalue(who)
    for attempt in (1, 2, 10**6):
        answer = attacker.claim(running, attempt)
        assert answer.status_code == 409 and "script" not in answer.text


def test_a_waiting_task_of_another_project_cannot_be_claimed(
    forge: Deployment, thief: Thief
) -> None:
    task = forge.api.run_script(forge.api.project("Nobody works here"), "echo secret words")
    answer = thief.claim(task)
    assert answer.status_code == 409 and "secret words" not in answer.text
    assert answer.json() == thief.claim(10**9).json() | {"message": answer.json()["message"]}
    assert forge.api.task(task)["state"] == "queued"


def test_a_finished_or_stopped_task_cannot_be_claimed_again(
    forge: Deployment, sibling: Thief
) -> None:
    project = forge.place["project_id"]
    done = forge.api.wait_until(forge.api.run_script(project, "echo done"))["id"]
    assert sibling.claim(done).status_code == 409
    assert sibling.report(results=[result(done)]).json()["receipts"][0]["is_held"] is False
    assert forge.api.task(done)["state"] == "succeeded"


def test_a_heartbeat_cannot_keep_or_end_a_task_of_another(
    running: int, forge: Deployment, sibling: Thief
) -> None:
    answer = sibling.heartbeat([{"task": running, "attempt": 1}])
    assert answer.json()["drop"] == [{"task": running, "attempt": 1}]
    assert answer.json()["stop"] == []
    assert forge.api.task(running)["state"] == "running"


def test_another_session_is_told_that_it_was_displaced(thief: Thief) -> None:
    old = Thief(thief.url, thief.runner, session="an-older-session-012345")
    assert old.heartbeat([]).status_code == 409


@pytest.mark.parametrize("path", [*PATHS, "register", "unregister"])
def test_without_a_runner_token_nothing_answers(path: str, forge: Deployment) -> None:
    url = f"{forge.place['url']}/runner/v1/{path}"
    wrong = ["", "Bearer", "Bearer fgr_" + "x" * 43, f"Bearer {forge.place['api_token']}"]
    wrong += [f"Basic {forge.place['runner_token']}", "Bearer fgr_" + "x" * 5000]
    for header in wrong:
        answer = requests.post(url, data=b"{}", headers={"Authorization": header}, timeout=30)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert requests.get(url, timeout=30).status_code == 405


_JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=40),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = """session instance protocol version host_name system task attempt nonce started pieces
results held offset data outcome exit_code reason log_bytes log_sha256 age_seconds is_leaving
digest name"""

_BODIES = some.one_of(
    some.binary(max_size=300),
    some.dictionaries(some.sampled_from(_FIELDS.split()), _JSON, max_size=8).map(
        lambda content: json.dumps(content).encode()
    ),
)


@hypothesis_settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(path=some.sampled_from(PATHS), body=_BODIES)
def test_no_body_breaks_the_server(path: str, body: bytes, thief: Thief) -> None:
    answer = thief.send(path, body)
    assert answer.status_code < 500
    if not answer.ok:
        assert answer.json()["message"]


@pytest.fixture(scope="module")
def registration_token(forge: Deployment) -> str:
    """A stolen one, for a project in which nobody works."""
    project = forge.api.project("Registering")
    ends = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    given = {"name": "stolen", "expires_at": ends, "max_uses": 3}
    made = forge.api.post(f"projects/{project}/registration-tokens/", **given)
    return str(made["token"])


_REGISTRATION = {
    "protocol": some.just(1),
    "version": some.text(max_size=50),
    "digest": some.one_of(
        some.from_regex(r"\A[0-9a-f]{64}\Z"), some.text(max_size=70), some.integers()
    ),
    "host_name": some.text(max_size=300),
    "system": some.text(max_size=130),
    "name": some.one_of(some.none(), some.text(max_size=70)),
}


@hypothesis_settings(max_examples=150, deadline=None)
@given(body=some.one_of(_BODIES, some.fixed_dictionaries(_REGISTRATION).map(json.dumps)))
def test_no_registration_breaks_the_server_or_gets_more_runners_than_allowed(
    body: bytes | str, registration_token: str, forge: Deployment
) -> None:
    answer = requests.post(
        f"{forge.place['url']}/runner/v1/register",
        data=body,
        headers={"Authorization": f"Bearer {registration_token}"},
        timeout=30,
    )
    assert answer.status_code in (200, 400, 403, 409)
    if not answer.ok:
        assert answer.json()["message"]
    projects = forge.api.get("projects/?page_size=200")["results"]
    (project,) = (row["id"] for row in projects if row["name"] == "Registering")
    assert forge.api.get(f"projects/{project}/runners/")["count"] <= 3


def test_a_registration_token_opens_nothing_else(
    registration_token: str, forge: Deployment
) -> None:
    headers = {"Authorization": f"Bearer {registration_token}"}
    url = forge.place["url"]
    for path in [*PATHS, "unregister"]:
        answer = requests.post(f"{url}/runner/v1/{path}", data=b"{}", headers=headers, timeout=30)
        assert answer.status_code == 401
    assert requests.get(f"{url}/api/v1/projects/", headers=headers, timeout=30).status_code == 401


def test_afterwards_the_server_has_logged_no_error_and_names_the_runner(
    forge: Deployment, thief: Thief
) -> None:
    log = (forge.data / "logs" / "web.log").read_text()
    assert "Traceback" not in log
    assert f"refused runner {thief.runner.name} ({thief.runner.id}): malformed: " in log
    assert f"refused runner {thief.runner.name} ({thief.runner.id}): fence: " in log
    assert "refused sender 127.0.0.1: unknown_token: a runner token with" in log
