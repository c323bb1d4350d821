"""A second worker of the same runner, started by mistake, touches nothing of the first one's."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.deployment.client import Runner, wait_for
from tests.deployment.deployment import Deployment, Worker

SECRET = "-----BEGIN OPENSSH PRIVATE KEY-----\nQUJD\n-----END OPENSSH PRIVATE KEY-----\n"


def second(forge: Deployment, first: Worker, folder: Path) -> Worker:
    """On the same host, with a folder of its own for its data."""
    folder.mkdir()
    return Worker(forge.place["url"], first.runner, folder, python=first.python, cwd=first.cwd)


@pytest.fixture
def runner(forge: Deployment) -> tuple[int, Runner]:
    number = time.monotonic_ns()
    project = forge.api.project(f"Second {number}")
    return project, forge.api.runner(project, f"second-{number}")


def run_with_secret(forge: Deployment, project: int, folder: Path) -> tuple[int, Path, Path]:
    """A task that reads its secret file when its gate opens: its id, the gate, the file."""
    key = forge.api.access_key(project, "key", "ssh", login="deploy", private_key=SECRET)
    told, gate = folder / "told", folder / "gate"
    script = (
        f'echo "$DEPLOY_FILE" > {told}.new; mv {told}.new {told}; echo up; '
        f'while [ ! -e {gate} ]; do sleep 0.05; done; cat "$DEPLOY_FILE" > {folder}/read'
    )
    uses = [{"access_key": key, "variable": "DEPLOY"}]
    task = forge.api.run_script(project, script, access_keys=uses)
    forge.api.await_output(task, b"up")
    return task, gate, Path(told.read_text().strip())


def test_it_leaves_the_first_ones_tasks_their_secret_files(
    forge: Deployment, runner: tuple[int, Runner], tmp_path: Path
) -> None:
    project, row = runner
    first = forge.worker(row)
    task, gate, file = run_with_secret(forge, project, tmp_path)
    mistake = second(forge, first, tmp_path / "second")
    assert mistake.process.wait(120) == 2 and "already connected" in mistake.said()
    assert file.exists()
    gate.touch()
    assert forge.api.wait_until(task)["state"] == "succeeded"
    assert (tmp_path / "read").read_text() == SECRET


def test_the_one_that_forge_takes_removes_what_the_other_could_not(
    forge: Deployment, runner: tuple[int, Runner], tmp_path: Path
) -> None:
    project, row = runner
    first = forge.worker(row)
    _, _, file = run_with_secret(forge, project, tmp_path)
    if not file.is_relative_to("/dev/shm"):
        pytest.skip("this host keeps no secret files in memory")
    # As an earlier version called it, and left it.
    left = file.parents[1].with_name(file.parents[1].name.rpartition("-")[0])
    left.mkdir(mode=0o700)
    (left / "1").write_text(SECRET)
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.wait()
    wait_for(lambda: not file.exists(), "its supervisor has removed the file")
    assert (left / "1").exists()
    wait_for(lambda: forge.api.status(row.id) == "offline", "Forge misses the first one")
    other = second(forge, first, tmp_path / "second")
    try:
        wait_for(lambda: not left.exists(), "what was left is removed")
    finally:
        other.kill()
