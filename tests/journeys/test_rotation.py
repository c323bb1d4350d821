"""A runner's token is replaced while it works: nothing that runs or waits is lost for it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
import requests
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.deployment.client import Runner, wait_for
from tests.deployment.deployment import ROOT, SHORT, Deployment, Worker

TASKS = 500 if os.environ.get("FORGE_LONG") else 60
OVERLAP_SECONDS = 20 if os.environ.get("FORGE_LONG") else 6
# Each start leaves a line, so that a second one cannot hide.
SCRIPT = 'echo "$FORGE_TASK_ID.$FORGE_ATTEMPT" >> {ledger}; sleep 0.1; echo done'


class Rotating:
    """The only runner of a project, whose worker has its token in a file."""

    def __init__(self, forge: Deployment, project: int, folder: Path) -> None:
        self.forge = forge
        self.project = project
        self.runner: Runner = forge.api.runner(project, "rotating", concurrency=4)
        self.file = folder / "token"
        self.put(self.runner.token)
        self.worker: Worker = forge.worker(self.runner, FORGE_RUNNER_TOKEN_FILE=str(self.file))

    def put(self, token: str) -> None:
        """As the page says: written beside it, then moved into its place."""
        new = self.file.with_name("token.new")
        new.write_text(token + "\n")
        new.chmod(0o600)
        new.replace(self.file)

    def rotate(self, overlap: int) -> str:
        made = self.forge.api.post(f"runners/{self.runner.id}/rotate", overlap_seconds=overlap)
        return str(made["token"])

    def connections(self) -> set[str]:
        """The ids of the account's connections at the broker."""
        with redis.Redis.from_url(self.forge.place["broker_url"]) as broker:
            rows: list[dict[str, Any]] = broker.client_list()
        return {row["id"] for row in rows if row["user"] == f"runner-{self.runner.id}"}

    def await_cut(self, before: set[str], meanwhile: Callable[[], object] = lambda: None) -> None:
        """Until none of these connections is left, and the worker has made others."""

        def is_back() -> bool:
            meanwhile()
            now = self.connections()
            return bool(now) and not before & now

        wait_for(is_back, "the old connections were cut and the worker is back")

    def is_refused(self, token: str) -> bool:
        return not self.opens_the_api(token) and not self.opens_the_broker(token)

    def opens_the_api(self, token: str) -> bool:
        answer = requests.post(
            f"{self.forge.place['url']}/runner/v1/verify",
            json={"protocol": 1, "version": "0.1.0"},
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
        )
        assert answer.status_code in (200, 401), answer.text
        return answer.status_code == 200

    def opens_the_broker(self, token: str) -> bool:
        parts = urlsplit(self.forge.place["broker_url"])
        client = redis.Redis(
            port=parts.port or 0,
            username=f"runner-{self.runner.id}",
            password=token,
            retry=Retry(NoBackoff(), 0),
        )
        with client:
            try:
                return bool(client.ping())
            except redis.AuthenticationError:
                return False


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Patient: a busy machine takes longer for a worker's restart than the short periods allow."""
    patient = {**SHORT, "FORGE_UNREACHABLE_SECONDS": "120"}
    with Deployment(tmp_path_factory.mktemp("forge"), patient) as deployment:
        yield deployment


@pytest.fixture
def rotating(
    forge: Deployment, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Rotating]:
    found = Rotating(forge, forge.api.project(request.node.name[-70:]), tmp_path)
    yield found
    found.worker.end()


def test_two_rotations_under_load_fail_no_task_and_end_the_old_tokens(
    forge: Deployment, rotating: Rotating, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    template = forge.api.template(rotating.project, SCRIPT.format(ledger=ledger))
    tasks: list[int] = []

    def load() -> None:
        """A few more tasks, so that there is always something that runs and waits."""
        tasks.extend(forge.api.run(rotating.project, template) for _ in range(6))

    old = [rotating.runner.token]
    load()
    for _ in range(2):
        # The worker may be between the end of one connection and the next.
        before = wait_for(rotating.connections, "the worker is connected")
        began = time.monotonic()
        new = rotating.rotate(OVERLAP_SECONDS)
        rotating.put(new)
        opens = rotating.opens_the_api(old[-1]) and rotating.opens_the_broker(old[-1])
        assert opens or time.monotonic() - began > OVERLAP_SECONDS
        # Every connection that was signed in with the old token ends, and the worker comes back.
        rotating.await_cut(before, meanwhile=load)
        # Connections also end by themselves; the token ends with the overlap.
        wait_for(partial(rotating.is_refused, old[-1]), "the old token is refused everywhere")
        old.append(new)
    while len(tasks) < TASKS:
        load()
    ended = forge.api.finished(tasks)
    assert {(task["state"], task["log_complete"]) for task in ended} == {("succeeded", True)}
    assert sorted(ledger.read_text().split()) == sorted(f"{task}.1" for task in tasks)
    assert rotating.worker.process.poll() is None
    assert "Traceback" not in rotating.worker.said()
    assert not [token for token in old if token in rotating.worker.said()]
    shown = forge.api.get(f"runners/{rotating.runner.id}/")
    assert shown["older_token_expires_at"] is None


def test_a_running_task_goes_on_when_the_old_connections_are_cut(
    forge: Deployment, rotating: Rotating, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    script = f"echo begun; while [ ! -e {gate} ]; do sleep 0.05; done; echo done"
    task = forge.api.run_script(rotating.project, script)
    forge.api.await_output(task, b"begun")
    before = rotating.connections()
    new = rotating.rotate(3600)
    rotating.put(new)
    path = f"runners/{rotating.runner.id}"
    wait_for(lambda: "accepts the new token" in rotating.worker.said(), "the worker has noticed")
    assert forge.api.get(f"{path}/")["older_token_expires_at"]
    # Nobody has to wait for the end: the manager sees that the new one is in use.
    forge.api.post(f"{path}/end-older-tokens")
    rotating.await_cut(before)
    assert not rotating.opens_the_api(rotating.runner.token)
    assert rotating.opens_the_broker(new)
    gate.touch()
    assert forge.api.wait_until(task)["state"] == "succeeded"
    assert forge.api.log(task) == b"begun\ndone\n"
    following = forge.api.run_script(rotating.project, "true")
    assert forge.api.wait_until(following)["state"] == "succeeded"


def test_a_worker_with_nothing_but_a_replaced_token_ends_and_says_so(
    forge: Deployment, rotating: Rotating
) -> None:
    task = forge.api.run_script(rotating.project, "echo up; sleep 600")
    forge.api.await_output(task, b"up")
    new = rotating.rotate(0)
    assert rotating.worker.process.wait(60) == 2
    said = rotating.worker.said()
    assert "a newer one has replaced it. Put the newer one in its place." in said
    assert "Traceback" not in said
    # With the newer one it finds what it could not report: the journal is the runner's.
    rotating.put(new)
    rotating.worker.start()
    ended = forge.api.wait_until(task)
    assert ended["state"] in ("stopped", "failed") and "token" in ended["reason"]
    log = forge.api.log(task)
    assert log.startswith(b"up\nforge: stopping: ") and ended["log_complete"]
    assert b"a newer one has replaced it" in log and b"all of its processes have ended" in log


def test_a_wrong_file_does_not_end_a_worker_whose_token_still_works(
    forge: Deployment, rotating: Rotating
) -> None:
    """Nonsense, a token that nobody knows, and the token of another runner."""
    sibling = forge.api.runner(rotating.project, "sibling")
    for wrong in ("nonsense", "fgr_" + "x" * 43, sibling.token):
        rotating.put(wrong)
        forge.api.await_status(rotating.runner.id, "idle")
        task = forge.api.wait_until(forge.api.run_script(rotating.project, "true"))
        assert (task["state"], task["runner"]) == ("succeeded", rotating.runner.id)
    assert rotating.worker.process.poll() is None
    assert forge.api.status(sibling.id) == "never_contacted"
    # Put there before the old one ends: the file still holds the sibling's.
    rotating.put(rotating.rotate(3600))
    wait_for(lambda: "accepts the new token" in rotating.worker.said(), "the worker has noticed")
    forge.api.post(f"runners/{rotating.runner.id}/end-older-tokens")
    task = forge.api.wait_until(forge.api.run_script(rotating.project, "true"))
    assert task["state"] == "succeeded"


def test_a_second_worker_of_the_runner_is_refused_whichever_token_it_has(
    forge: Deployment, rotating: Rotating
) -> None:
    second = rotating.rotate(3600)
    worker = Worker(
        forge.place["url"],
        Runner(rotating.runner.id, "second", second),
        forge.folder,
        python=sys.executable,
        cwd=ROOT,
    )
    assert worker.process.wait(60) == 2
    assert "Another worker already uses" in worker.said()
    assert rotating.worker.process.poll() is None
