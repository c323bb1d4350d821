"""The runner API against a thief with one runner's token: nothing succeeds, nothing breaks."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.attacks.scene import Scene, still
from tests.attacks.thief import Thief

pytestmark = pytest.mark.usefixtures("innocent")

PATHS = ["connect", "claim", "report", "heartbeat", "verify", "unregister"]
SCRIPT = "echo begun; while [ ! -e {gate} ]; do sleep 0.05; done; echo done"
ATTEMPTS = (1, 2, 3, 10**6)


@pytest.fixture
def running(forge: Scene, tmp_path: Path) -> Iterator[int]:
    """A task of the demo runner that runs until the test is over, and must end well then."""
    gate = tmp_path / "gate"
    task = forge.api.run_script(forge.seeded["project_id"], SCRIPT.format(gate=gate))
    forge.api.await_output(task, b"begun")
    yield task
    gate.touch()
    ended = forge.api.wait_until(task)
    assert (ended["state"], ended["log_complete"]) == ("succeeded", True)
    assert forge.api.log(task) == b"begun\ndone\n"


def piece(task: int, text: bytes, offset: int = 0, attempt: int = 1) -> dict[str, Any]:
    data = base64.b64encode(text).decode()
    return {"task": task, "attempt": attempt, "offset": offset, "data": data}


def started(task: int, attempt: int = 1) -> dict[str, Any]:
    return {"task": task, "attempt": attempt, "age_seconds": 5.0}


def result(
    task: int, log: bytes = b"", attempt: int = 1, outcome: str = "failed"
) -> dict[str, Any]:
    return {
        "task": task,
        "attempt": attempt,
        "outcome": outcome,
        "exit_code": 1,
        "reason": "forged",
        "log_bytes": len(log),
        "log_sha256": hashlib.sha256(log).hexdigest(),
        "age_seconds": 0.0,
    }


def attacker_of(who: str, request: pytest.FixtureRequest) -> Thief:
    found: Thief = request.getfixturevalue(who)
    found.connect()
    return found


def is_refused(answer: requests.Response) -> bool:
    """No receipt says that anything was taken, and no word of the task is in it."""
    receipts = answer.json()["receipts"]
    return answer.ok and all(
        (one["is_held"], one["log_bytes"], one["is_finished"]) == (False, 0, False)
        for one in receipts
    )


@pytest.mark.parametrize("who", ["thief", "sibling"])
def test_nobody_else_can_write_to_a_running_task(
    who: str, running: int, forge: Scene, request: pytest.FixtureRequest
) -> None:
    """Starts, pieces of log at any offset, results of every outcome, of this and other attempts."""
    attacker = attacker_of(who, request)
    before = still(forge.api.task(running))
    with forge.attack(f"forged starts, logs and results, {who}", attacker, "fence") as row:
        for attempt in ATTEMPTS:
            parts: list[dict[str, Any]] = [{"started": [started(running, attempt)]}]
            parts += [
                {"pieces": [piece(running, b"forged", offset, attempt)]}
                for offset in (0, 6, 2**31, 2**63 - 1)
            ]
            parts += [
                {"results": [result(running, log, attempt, outcome)]}
                for outcome in ("succeeded", "failed", "stopped")
                for log in (b"", b"begun\n")
            ]
            told = {"task": running, "attempt": attempt, "gap_offset": 0, "written_bytes": 2**40}
            parts.append({"overflows": [told]})
            parts.append({name: value for part in parts for name, value in part.items()})
            for part in parts:
                row.tried(part, succeeded=not is_refused(attacker.report(**part)))
    assert still(forge.api.task(running)) == before
    assert forge.api.log(running) == b"begun\n"


@pytest.mark.parametrize("who", ["thief", "sibling"])
def test_nobody_else_can_claim_a_task_that_is_held(
    who: str, running: int, forge: Scene, request: pytest.FixtureRequest
) -> None:
    attacker = attacker_of(who, request)
    with forge.attack(f"claims of a running task, {who}", attacker, "claim_refused") as row:
        for attempt in ATTEMPTS:
            for nonce in ("n" * 16, "0" * 8, "x" * 64, "' OR 1=1 --", "%" * 20):
                answer = attacker.claim(running, attempt, nonce)
                taken = answer.status_code != 409 or "script" in answer.text
                row.tried((attempt, nonce), succeeded=taken)


def test_a_task_of_another_project_cannot_be_claimed_or_told_from_none(
    forge: Scene, thief: Thief
) -> None:
    elsewhere = forge.api.project(f"Nobody works here {thief.runner.id}")
    task = forge.api.run_script(elsewhere, "echo secret words")
    thief.connect()
    with forge.attack("claims of foreign tasks", thief, "claim_refused") as row:
        for attempt in ATTEMPTS:
            answer, of_none = thief.claim(task, attempt), thief.claim(10**9, attempt)
            told = "secret words" in answer.text
            same = answer.json()["message"].replace(f"{task}", "N") == of_none.json()[
                "message"
            ].replace("1000000000", "N")
            row.tried(attempt, succeeded=answer.status_code != 409 or told or not same)
        own = forge.api.get(f"projects/{thief.project}/tasks/?page_size=200")["results"]
        for number in {*range(1, task + 20)} - {mine["id"] for mine in own}:
            row.tried(number, succeeded=thief.claim(number).status_code != 409)
    assert forge.api.task(task)["state"] == "queued"
    forge.api.post(f"tasks/{task}/stop")


def test_what_is_over_cannot_be_claimed_or_changed(forge: Scene, sibling: Thief) -> None:
    """Finished, failed, stopped while it waited, stopped while it ran, and a stale attempt."""
    project = forge.seeded["project_id"]
    done = forge.api.run_script(project, "echo done")
    failed = forge.api.run_script(project, "exit 3")
    ended = forge.api.run_script(project, "echo up; sleep 600")
    unclaimed = forge.api.run_script(project, "true", tags=["nobody-has-this"])
    forge.api.await_output(ended, b"up")
    for number in (ended, unclaimed):
        forge.api.post(f"tasks/{number}/stop")
    before = forge.api.finished([done, failed, ended, unclaimed])
    assert [task["state"] for task in before] == ["succeeded", "failed", "stopped", "stopped"]
    with forge.attack("finished and stopped tasks", sibling, "claim_refused|fence") as row:
        for task in before:
            for attempt in ATTEMPTS:
                answer = sibling.claim(task["id"], attempt)
                row.tried((task["id"], attempt), succeeded=answer.status_code != 409)
                parts: dict[str, Any] = {"results": [result(task["id"], b"", attempt)]}
                parts["pieces"] = [piece(task["id"], b"forged", task["log_bytes"], attempt)]
                parts["started"] = [started(task["id"], attempt)]
                row.tried(parts, succeeded=not is_refused(sibling.report(**parts)))
    assert forge.api.finished([task["id"] for task in before]) == before


def test_replays_change_nothing(forge: Scene, thief: Thief) -> None:
    """A whole conversation is sent again, with and without the nonce, by the holder itself."""
    task = forge.api.run_script(thief.project, "echo never")
    thief.connect()
    claimed = thief.claim(task, nonce="first-nonce-12345678")
    assert claimed.ok
    again = thief.claim(task, nonce="first-nonce-12345678")
    assert again.json() == claimed.json()
    talk = [
        {"started": [started(task)]},
        {"pieces": [piece(task, b"hello\n")]},
        {"results": [result(task, b"hello\n", outcome="succeeded")]},
    ]
    for part in talk:
        assert thief.report(**part).ok
    before = forge.api.task(task)
    assert (before["state"], before["log_complete"]) == ("succeeded", True)
    other = forge.steal("replaying-sibling", thief.project)
    other.connect()
    with forge.attack("replays", other, "claim_refused|fence") as row:
        for nonce in ("first-nonce-12345678", "other-nonce-12345678", ""):
            for who in (thief, other):
                answer = who.claim(task, nonce=nonce)
                row.tried(nonce, succeeded=answer.ok or "never" in answer.text)
        for part in [*talk, *reversed(talk), {"pieces": [piece(task, b"more\n", 6)]}]:
            row.tried(part, succeeded=not is_refused(other.report(**part)))
            assert thief.report(**part).ok
            row.tried(part, succeeded=forge.api.task(task) != before)
    assert forge.api.log(task) == b"hello\n"


def test_a_heartbeat_cannot_keep_or_end_a_task_of_another(
    running: int, forge: Scene, sibling: Thief, thief: Thief
) -> None:
    thief.connect()
    with forge.attack("heartbeats for others' tasks", sibling, "claim_refused|displaced") as row:
        for who in (sibling, thief):
            for attempt in ATTEMPTS:
                held = [{"task": running, "attempt": attempt}]
                answer = who.heartbeat(held).json()
                row.tried(held, succeeded=(answer["drop"], answer["stop"]) != (held, []))
        old = Thief(sibling.url, sibling.runner, sibling.project, "an-older-session-012345")
        row.tried("older session", succeeded=old.heartbeat([]).status_code != 409)
    assert forge.api.wait_until(running, "running")["state"] == "running"


def test_without_a_runner_token_nothing_answers(forge: Scene, thief: Thief) -> None:
    """Other kinds of tokens, other schemes, other places, a token that was removed."""
    gone = forge.steal("removed")
    forge.api.remove_runner(gone.runner.id)
    good = thief.runner.token
    wrong = ["", "Bearer", "Bearer fgr_" + "x" * 43, f"Bearer {forge.seeded['api_token']}"]
    wrong += [f"Basic {good}", "Bearer fgr_" + "x" * 5000, f"Bearer {gone.runner.token}"]
    wrong += [f"Bearer {good[:-1]}", f"Bearer {good}x", f"Bearer {good.upper()}", f"Token {good}"]
    wrong += [f"Bearer  {good[4:]}", f"Bearer fgt_{good[4:]}", f"Bearer fgu_{good[4:]}"]
    with forge.attack("no token, or a wrong one", gone, "removed") as row:
        for path in PATHS:
            url = f"{forge.web_url}/runner/v1/{path}"
            for header in wrong:
                headers = {"Authorization": header}
                answer = requests.post(url, data=b"{}", headers=headers, timeout=30)
                row.tried((path, header[:20]), succeeded=answer.status_code not in (401, 429))
            for options in _elsewhere(good):
                answer = requests.post(url, timeout=30, **options)
                row.tried((path, options), succeeded=answer.status_code not in (401, 429))
            for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "HEAD"):
                answer = requests.request(method, url, headers=thief.headers, timeout=30)
                row.tried((path, method), succeeded=answer.status_code not in (405, 400, 501))


def _elsewhere(token: str) -> list[dict[str, Any]]:
    """The token where none is looked for."""
    return [
        {"data": b"{}", "params": {"token": token, "access_token": token}},
        {"data": b"{}", "cookies": {"token": token, "forge_session": token}},
        {"json": {"token": token, "Authorization": f"Bearer {token}"}},
        {"data": b"{}", "headers": {"X-Authorization": f"Bearer {token}", "X-Token": token}},
        {"data": b"{}", "headers": {"Proxy-Authorization": f"Bearer {token}"}},
        {"data": b"{}", "auth": ("runner", token)},
    ]


def test_a_runner_token_opens_nothing_but_the_runner_api(forge: Scene, thief: Thief) -> None:
    paths = ["projects/", "runners/1/", "tasks/1/", "tasks/1/log", "tokens/", "me/"]
    paths += [f"projects/{forge.innocents_project}/{kind}/" for kind in ("tasks", "runners")]
    with forge.attack("a runner's token at the API and pages", thief, "") as row:
        for path in paths:
            for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
                url = f"{forge.web_url}/api/v1/{path}"
                answer = requests.request(method, url, headers=thief.headers, json={}, timeout=30)
                row.tried((method, path), succeeded=answer.status_code not in (401, 403, 404, 405))
        for path in ("", "tasks/1", "admin/", "runners/", "projects/1/templates"):
            answer = requests.get(
                f"{forge.web_url}/{path}", headers=thief.headers, timeout=30, allow_redirects=False
            )
            row.tried(path, succeeded=answer.status_code not in (301, 302, 404))
