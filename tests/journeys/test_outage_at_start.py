"""Workers that start while Forge, or its broker, is away: as after a power cut."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.broker import free_port
from tests.deployment.client import Runner, wait_for
from tests.deployment.deployment import ROOT, Deployment, Worker

WAITS = "so this worker waits for it"
BACK = "Forge and its broker answer; this worker starts."
OTHER_TOKEN = "fgr_" + "y" * 43


class Host:
    """A runner whose worker was connected once, and is dead."""

    def __init__(self, forge: Deployment, name: str) -> None:
        self.forge = forge
        self.project = forge.api.project(name)
        self.runner: Runner = forge.api.runner(self.project, name)
        self.worker: Worker = forge.worker(self.runner)

    def start_and_await(self, words: str) -> None:
        """Start the worker and wait until it says this, and lives on."""
        self.worker.start()
        wait_for(lambda: words in self.worker.said(), words)
        assert self.worker.process.poll() is None

    def runs_a_task(self) -> bool:
        task = self.forge.api.run_script(self.project, "echo here")
        return bool(self.forge.api.wait_until(task)["state"] == "succeeded")


def test_a_worker_that_starts_before_its_forge_waits_and_then_runs_its_tasks(
    forge: Deployment,
) -> None:
    host = Host(forge, "early-1")
    host.worker.kill()
    waiting = forge.api.run_script(host.project, "echo waited")
    with forge.away("web"):
        host.start_and_await(WAITS)
        assert "cannot be reached" in host.worker.said()
    assert forge.api.wait_until(waiting)["state"] == "succeeded"
    said = host.worker.said()
    assert (said.count(WAITS), said.count(BACK)) == (1, 1) and "Traceback" not in said


def test_a_worker_that_starts_before_the_broker_waits_for_it(forge: Deployment) -> None:
    host = Host(forge, "early-2")
    host.worker.kill()
    with forge.away("broker"):
        host.start_and_await(WAITS)
        assert "cannot be reached from Forge" in host.worker.said()
    assert host.runs_a_task()
    assert BACK in host.worker.said()


def test_a_worker_that_waits_for_the_broker_alone_hands_over_what_it_holds_and_says_so(
    forge: Deployment, tmp_path: Path
) -> None:
    host, gate = Host(forge, "early-5"), tmp_path / "gate"
    script = f"echo up; until [ -e {gate} ]; do sleep 0.05; done; echo done"
    task = forge.api.run_script(host.project, script)
    forge.api.await_output(task, b"up")
    with forge.away("web"):
        gate.touch()
        notes = (forge.folder / "journals").glob(f"runner-{host.runner.id}-*/tasks/{task}-1")
        wait_for((next(notes) / "result.json").exists, "its end is in the journal")
        host.worker.kill()
    with forge.away("broker"):
        host.start_and_await(WAITS)
        ended = forge.api.wait_until(task)
        assert (ended["state"], ended["log_complete"]) == ("succeeded", True), ended["reason"]
        assert forge.api.log(task) == b"up\ndone\n"
        forge.api.await_status(host.runner.id, "unhealthy")
        trouble = forge.api.get(f"runners/{host.runner.id}/")["trouble"]
        assert trouble == "Forge's broker does not answer"
        assert BACK not in host.worker.said()
    forge.api.await_status(host.runner.id, "idle")
    assert host.runs_a_task()
    assert "Traceback" not in host.worker.said()


@pytest.mark.parametrize("by", ["a signal", "Forge"])
def test_a_worker_that_waits_for_the_broker_alone_ends_when_it_is_told(
    by: str, forge: Deployment
) -> None:
    host = Host(forge, f"told-by-{by.split()[-1].lower()}")
    host.worker.kill()
    with forge.away("broker"):
        host.start_and_await(WAITS)
        forge.api.await_status(host.runner.id, "idle", "unhealthy")
        if by == "Forge":
            forge.api.post(f"runners/{host.runner.id}/drain", reason="Kernel update")
        else:
            host.worker.process.terminate()
        assert host.worker.process.wait(60) == 0
    assert ("Kernel update" in host.worker.said()) == (by == "Forge")
    assert "Traceback" not in host.worker.said()


def test_a_runner_that_is_removed_while_its_worker_waits_ends_it(forge: Deployment) -> None:
    host = Host(forge, "early-3")
    host.worker.kill()
    with forge.away("broker"):
        host.start_and_await(WAITS)
        forge.api.remove_runner(host.runner.id)
        assert host.worker.process.wait(120) == 2
    assert host.worker.said().rstrip().splitlines()[-1].startswith("forge: Forge at ")
    assert "the runner was removed" in host.worker.said()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_worker_that_waits_ends_at_a_signal(forge: Deployment, number: signal.Signals) -> None:
    host = Host(forge, f"ends-{number}")
    host.worker.kill()
    before = host.worker.said()
    with forge.away("web"):
        host.start_and_await(WAITS)
        host.worker.process.send_signal(number)
        assert host.worker.process.wait(60) == 0
    (line,) = host.worker.said().removeprefix(before).splitlines()
    assert line.startswith("forge: ")


def test_usr1_shows_what_a_worker_waits_in_and_does_not_end_it(forge: Deployment) -> None:
    host = Host(forge, "shows-1")
    host.worker.kill()
    with forge.away("web"):
        host.start_and_await(WAITS)
        host.worker.process.send_signal(signal.SIGUSR1)
        wait_for(lambda: "in await_forge" in host.worker.said(), "where its first thread is")
    # What it waited for is there: it goes on, and Celery shows the same from then on.
    assert host.runs_a_task()
    assert "forge-shutdown" not in host.worker.said()
    host.worker.process.send_signal(signal.SIGUSR1)
    wait_for(lambda: "forge-shutdown" in host.worker.said(), "where each of its threads is")
    assert host.runs_a_task()


def test_usr1_does_not_end_a_worker_that_has_not_read_its_settings() -> None:
    code = "import os, runners.worker.celery; os.kill(os.getpid(), 10); print('goes on')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "goes on\n")
    assert "<module>" in done.stderr


def test_a_token_that_came_by_rotation_is_known_too(forge: Deployment, tmp_path: Path) -> None:
    file = tmp_path / "token"
    project = forge.api.project("early-4")
    runner = forge.api.runner(project, "early-4")
    file.write_text(runner.token)
    worker = forge.worker(runner, FORGE_RUNNER_TOKEN_FILE=str(file))
    new = forge.api.post(f"runners/{runner.id}/rotate", overlap_seconds=600)["token"]
    (tmp_path / "new").write_text(new)
    (tmp_path / "new").replace(file)
    folder = next((forge.folder / "journals").glob(f"runner-{runner.id}-*"))

    def notes() -> list[Path]:
        # Each is there whole or not at all: what is being written has a name of its own.
        return [note for note in folder.glob("known-*") if note.suffix != ".new"]

    wait_for(lambda: len(notes()) == 2, "the new token was noted")
    assert not [note for note in notes() if new in note.name or note.read_text()]
    worker.kill()
    with forge.away("web"):
        worker.start()
        wait_for(lambda: WAITS in worker.said(), WAITS)
    task = forge.api.run_script(project, "true")
    assert forge.api.wait_until(task)["state"] == "succeeded"


@pytest.mark.parametrize("what", ["token", "address"])
def test_what_was_never_good_in_this_folder_is_not_waited_for(forge: Deployment, what: str) -> None:
    host = Host(forge, f"first-{what}")
    host.worker.end()
    url, token = forge.place["url"], host.runner.token
    if what == "address":
        url = f"http://127.0.0.1:{free_port()}"
    else:
        token = OTHER_TOKEN
    before = host.worker.said()
    with forge.away("web"):
        first = Worker(
            url,
            host.runner,
            forge.folder,
            python=host.worker.python,
            cwd=host.worker.cwd,
            FORGE_RUNNER_TOKEN=token,
        )
        assert first.process.wait(60) == 2
    (line,) = first.said().removeprefix(before).splitlines()
    assert "cannot be reached" in line and WAITS not in line


def test_the_quick_start_keeps_its_runner_when_it_dies_together_with_forge(
    forge: Deployment,
) -> None:
    waiting = [forge.api.run_script(forge.place["project_id"], "sleep 1") for _ in range(4)]
    pids = forge.place["pids"]
    for role in ("web", "runner"):
        os.kill(pids[role], signal.SIGKILL)
    changed = ("web", "runner")
    wait_for(lambda: all(forge.pid(role) != pids[role] for role in changed), "both are back")
    assert all(task["finished_at"] for task in forge.api.finished(waiting))
    again = forge.api.run_script(forge.place["project_id"], "true")
    assert forge.api.wait_until(again)["state"] == "succeeded"
    assert "is not started again" not in forge.said()
