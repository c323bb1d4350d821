"""Accounts are tampered with while tasks run: right again in seconds, and nobody is harmed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from tests.deployment.client import wait_for
from tests.deployment.deployment import Deployment

SCRIPT = "echo begun; while [ ! -e {gate} ]; do sleep 0.05; done; echo done"


@pytest.fixture
def admin(forge: Deployment) -> Iterator[redis.Redis]:
    """The broker as its administrator sees it."""
    with redis.Redis.from_url(forge.place["broker_url"]) as client:
        yield client


def account(forge: Deployment) -> str:
    return f"runner-{forge.place['runner_id']}"


def rules_of(admin: redis.Redis, name: str) -> str:
    lines = [line for line in map(str, admin.acl_list()) if f" {name} " in line]
    return lines[0] if lines else ""


def acl(*words: str) -> Callable[[redis.Redis, str], Any]:
    return lambda admin, name: admin.execute_command("ACL", words[0], name, *words[1:])  # type: ignore[no-untyped-call]


def flush_and_delete(admin: redis.Redis, name: str) -> None:
    admin.flushall()
    admin.acl_deluser(name)


TAMPERING: dict[str, Callable[[redis.Redis, str], Any]] = {
    "ACL DELUSER": acl("DELUSER"),
    "everything allowed": acl("SETUSER", "+@all", "~*", "&*"),
    "no password": acl("SETUSER", "nopass"),
    "another password": acl("SETUSER", ">another"),
    "off": acl("SETUSER", "off"),
    "its queues taken away": acl("SETUSER", "clearselectors"),
    "FLUSHALL and DELUSER": flush_and_delete,
}


@pytest.mark.parametrize("how", TAMPERING)
def test_an_account_is_right_again_and_a_running_task_unharmed(
    how: str, forge: Deployment, admin: redis.Redis, tmp_path: Path
) -> None:
    project, name = forge.place["project_id"], account(forge)
    gate = tmp_path / "gate"
    running = forge.api.run_script(project, SCRIPT.format(gate=gate))
    forge.api.await_output(running, b"begun")
    before = rules_of(admin, name)
    assert before
    TAMPERING[how](admin, name)
    begun = time.monotonic()
    wait_for(lambda: rules_of(admin, name) == before, "its rules are as they were")
    print(f"\n{how}: right again after {time.monotonic() - begun:.1f} s")
    # The runner still gets work, and what it had goes on to its end.
    assert forge.api.wait_until(forge.api.run_script(project, "true"))["state"] == "succeeded"
    gate.touch()
    ended = forge.api.wait_until(running)
    assert (ended["state"], ended["log_complete"]) == ("succeeded", True)
    assert forge.api.log(running) == b"begun\ndone\n"
    log = (forge.data / "logs" / "controller.log").read_text()
    assert f"repaired the account {name} of runner demo-1" in log


def test_an_account_that_nobody_explains_is_gone_at_once(
    forge: Deployment, admin: redis.Redis
) -> None:
    admin.acl_setuser("runner-424242", enabled=True, nopass=True, commands=["+@all"], keys=["*"])
    wait_for(lambda: not rules_of(admin, "runner-424242"), "it is removed")


def test_a_runner_that_floods_is_cut_off_while_its_task_goes_on(
    forge: Deployment, tmp_path: Path
) -> None:
    place = forge.place
    project = forge.api.project("Flooded")
    worker = forge.worker(forge.api.runner(project, "flooder-1"))
    gate = tmp_path / "gate"
    running = forge.api.run_script(project, SCRIPT.format(gate=gate))
    forge.api.await_output(running, b"begun")
    port = urlsplit(place["broker_url"]).port or 0
    token, id_ = worker.runner.token, worker.runner.id
    thief = redis.Redis(port=port, username=f"runner-{id_}", password=token, socket_timeout=10)
    key = f"forge:project:{project}:x.reply.celery.pidbox"
    pieces = (thief.lpush(key, b"x" * 1_000_000) for _ in range(2000))
    with pytest.raises(redis.RedisError):
        list(pieces)
    thief.close()
    forge.api.await_status(id_, "unhealthy")
    found = forge.api.get(f"runners/{id_}/")
    assert "in the broker" in found["quarantine_reason"] and found["quarantined_until"]
    gate.touch()
    ended = forge.api.wait_until(running)
    assert (ended["state"], ended["log_complete"]) == ("succeeded", True)
    waiting = forge.api.run_script(project, "true")
    assert worker.process.poll() is None
    forge.api.post(f"runners/{id_}/lift-quarantine")
    assert forge.api.wait_until(waiting)["state"] == "succeeded"
    assert "Traceback" not in (forge.data / "logs" / "controller.log").read_text()
