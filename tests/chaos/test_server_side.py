"""The server's own parts fail while a task runs: a controller, the database, one of two webs."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests.broker import free_port, required
from tests.chaos.installation import Installation, installed
from tests.deployment.client import PATIENCE, wait_for
from tests.deployment.deployment import Worker
from tests.deployment.postgres import why_missing
from tests.deployment.production import MANAGE, Service

# Printed beside what is aimed at; asserted with the patience that a machine under load needs.
TAKEOVER_SECONDS = 10
NOT_REACHED = re.compile(
    r"error connecting in .*(?:Connection refused|server closed the connection|reset by peer)"
)
OUTAGE_SECONDS = 60.0 if os.environ.get("FORGE_LONG") else 0.0


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    if reason := why_missing():
        pytest.skip(reason)
    with installed(tmp_path_factory.mktemp("server")) as installation:
        yield installation


def start_gated(here: Installation, name: str) -> tuple[int, Path]:
    """A task that runs until its gate opens; its id and its gate."""
    gate = here.gates / name
    script = f"echo before; while [ ! -e {gate} ]; do sleep 0.05; done; echo after"
    task = here.forge.api.run_script(here.project, script)
    here.forge.api.await_output(task, b"before\n")
    return task, gate


def finish(here: Installation, task: int, gate: Path) -> None:
    gate.touch()
    ended = here.forge.api.wait_until(task)
    assert (ended["state"], ended["log_complete"]) == ("succeeded", True)
    assert here.forge.api.log(task) == b"before\nafter\n"


def other_than(here: Installation, leader: Service) -> Service:
    (other,) = (one for one in here.controllers if one is not leader)
    return other


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_another_controller_takes_over(blow: signal.Signals, here: Installation) -> None:
    task, gate = start_gated(here, f"takeover-{blow}")
    leader = here.leader()
    other = other_than(here, leader)
    heard = len(other.said())
    began = time.monotonic()
    leader.process.send_signal(blow)
    wait_for(lambda: "this controller leads" in other.said()[heard:], "the other leads")
    seconds = time.monotonic() - began
    print(f"after {blow.name} the other led in {seconds:.1f} s; aimed at: {TAKEOVER_SECONDS} s")
    # It does the leader's work.
    after = here.forge.api.run_script(here.project, "true")
    assert here.forge.api.wait_until(after)["state"] == "succeeded"
    if blow == signal.SIGSTOP:
        leader.process.send_signal(signal.SIGCONT)
        wait_for(
            lambda: "another controller leads" in leader.said_since_start(), "the old one sees it"
        )
    else:
        leader.process.wait()
        leader.start()
    assert here.leader() is other
    finish(here, task, gate)


def test_the_database_is_away_for_a_while_and_nothing_is_lost(here: Installation) -> None:
    assert here.database is not None
    task, gate = start_gated(here, "outage")
    url = here.forge.web_url
    browser = signed_in(here, url)
    workers = [host.worker for host in here.hosts]
    everybody: list[Service | Worker] = [*workers, *here.controllers]
    heard = {one.log: len(one.said()) for one in everybody}
    killed_at = time.monotonic()
    here.database.kill()
    page = browser.get(f"{url}/", timeout=60)
    assert page.status_code == 503 and "cannot reach its database" in page.text
    headers = dict(here.forge.api.session.headers)
    answer = requests.get(f"{url}/api/v1/tasks/{task}/", headers=headers, timeout=60)
    assert answer.status_code == 503 and answer.json()["code"] == "unavailable"
    assert int(answer.headers["Retry-After"]) > 0
    for worker in workers:
        await_word("HTTP 503", worker, heard[worker.log])
    for controller in here.controllers:
        await_word("lead: ", controller, heard[controller.log])
    time.sleep(OUTAGE_SECONDS)  # the length of the outage is what is tried here
    here.database.start()
    began = time.monotonic()
    wait_for(lambda: requests.get(f"{url}/readyz", timeout=60).ok, "Forge is ready again")
    print(f"ready {time.monotonic() - began:.1f} s after the database")
    assert here.forge.api.status(here.hosts[0].worker.runner.id)
    finish(here, task, gate)
    after = here.forge.api.run_script(here.project, "true")
    assert here.forge.api.wait_until(after)["state"] == "succeeded"
    for worker in workers:
        assert worker.process.poll() is None and "Traceback" not in worker.said()
    for one in (here.forge.web, *here.controllers):
        assert one.process.poll() is None and "Traceback" not in one.said()
    for controller in here.controllers:
        await_word("lead: works again", controller, heard[controller.log])
    # Each says once that it does not reach the database, and nobody that another one leads; after
    # it one does, and may be another one than before.
    said = [controller.said()[heard[controller.log] :] for controller in here.controllers]
    during = [one[: one.index("lead: works again")] for one in said]
    assert [one.count("lead: ") for one in during] == [1, 1]
    # And why, now and then: the pool of connections tries it several times a second. The first try
    # may still be taken by the socket of the database that is dying, and ended without an answer.
    minutes = (time.monotonic() - killed_at) / 60
    reasons = [NOT_REACHED.findall(one) for one in said]
    assert all(1 <= len(one) <= 2 + minutes for one in reasons), reasons
    assert not any("another controller leads" in one for one in during)


def test_a_database_that_is_gone_without_a_word_is_given_up_within_seconds(
    here: Installation,
) -> None:
    """Its packets are dropped, as when its host dies: no connection is refused, and none ends."""
    assert here.database is not None
    task, gate = start_gated(here, "silence")
    url = f"{here.forge.web_url}/api/v1/tasks/{task}/"
    headers = dict(here.forge.api.session.headers)
    with dropped(here.database.port):
        # The kernel would go on for a quarter of an hour.
        answers = [requests.get(url, headers=headers, timeout=PATIENCE) for _ in range(3)]
        assert {answer.status_code for answer in answers} == {503}
    wait_for(lambda: requests.get(url, headers=headers, timeout=PATIENCE).ok, "it is back")
    finish(here, task, gate)


@contextmanager
def dropped(port: int) -> Iterator[None]:
    """Nothing that goes to or comes from the port arrives."""
    rules = [
        ["INPUT", "-i", "lo", "-p", "tcp", way, str(port), "-j", "DROP"]
        for way in ("--dport", "--sport")
    ]
    if subprocess.run(["iptables", "-I", *rules[0]], capture_output=True).returncode:
        if "netns" in required():
            pytest.fail("dropping packets needs root")
        pytest.skip("dropping packets needs root")
    try:
        subprocess.run(["iptables", "-I", *rules[1]], check=True)
        yield
    finally:
        for rule in rules:
            subprocess.run(["iptables", "-D", *rule], capture_output=True)


def await_word(word: str, one: Service | Worker, after: int) -> None:
    wait_for(lambda: word in one.said()[after:], f"{word!r} in {one.log}")


def test_a_page_of_one_web_process_shows_live_what_the_other_is_told(here: Installation) -> None:
    port = free_port()
    here.forge.service("web-2", [*MANAGE, "web", "--port", str(port)])
    url = f"http://127.0.0.1:{port}"

    def is_up() -> bool:
        try:
            return requests.get(f"{url}/readyz", timeout=5).ok
        except requests.RequestException:
            return False

    wait_for(is_up, "the second web process is ready")
    task, gate = start_gated(here, "two-webs")
    with signed_in(here, url) as browser:
        # The runners speak to the first one.
        answer = browser.get(f"{url}/tasks/{task}/stream", stream=True, timeout=120)
        assert answer.status_code == 200
        seen = b""
        for line in answer.iter_lines():
            if line.startswith(b"data:") and (piece := bytes_in(line)):
                seen += piece
                gate.touch()
            if seen.endswith(b"after\n"):
                break
    assert seen == b"before\nafter\n"
    finish(here, task, gate)


def bytes_in(line: bytes) -> bytes:
    """The log bytes of one event; none of an event about something else."""
    data = json.loads(line.removeprefix(b"data:"))
    return base64.b64decode(data["data"]) if isinstance(data, dict) and "data" in data else b""


def signed_in(here: Installation, url: str) -> requests.Session:
    """A browser in which the administrator has signed in."""
    browser = requests.Session()
    form = browser.get(f"{url}/sign-in/", timeout=30).text
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', form)
    assert token is not None
    fields = {
        "username": here.forge.seeded["username"],
        "password": here.forge.password,
        "csrfmiddlewaretoken": token[1],
    }
    assert browser.post(f"{url}/sign-in/", data=fields, timeout=30).ok
    return browser
