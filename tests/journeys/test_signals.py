"""What HUP and USR2 do to a worker: a reload, a rotated log, a terminal that is closed."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.broker import die_with_parent
from tests.deployment.client import Runner, wait_for
from tests.deployment.deployment import ROOT, Deployment, Worker

GATED = "echo begun; while [ ! -e {gate} ]; do sleep 0.05; done; echo done"


@contextmanager
def hanging_up(action: signal.Handlers) -> Iterator[None]:
    """What is started in the block finds HUP so, whatever these tests run under."""
    before = signal.signal(signal.SIGHUP, action)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


class Scene:
    """A worker with a task that goes on until `finish`."""

    def __init__(self, forge: Deployment, folder: Path, name: str) -> None:
        self.forge = forge
        self.gate = folder / "gate"
        self.project = forge.api.project(name)
        self.runner: Runner = forge.api.runner(self.project, name)

    def begin_task(self) -> None:
        self.task = self.forge.api.run_script(self.project, GATED.format(gate=self.gate))
        self.forge.api.await_output(self.task, b"begun")

    def finish(self) -> dict[str, Any]:
        self.gate.touch()
        return self.forge.api.wait_until(self.task)


def start(scene: Scene, action: signal.Handlers) -> Worker:
    with hanging_up(action):
        worker = scene.forge.worker(scene.runner)
    scene.begin_task()
    return worker


def test_hup_drains_and_tells_forge(forge: Deployment, tmp_path: Path) -> None:
    scene = Scene(forge, tmp_path, "reloaded-1")
    worker = start(scene, signal.SIG_DFL)
    worker.process.send_signal(signal.SIGHUP)
    forge.api.await_status(scene.runner.id, "draining")
    wait_for(lambda: "Warm shutdown" in worker.said(), "it says what it waits for")
    later = forge.api.run_script(scene.project, "true")
    # A terminal that closes sends it twice; that is no order to stop what runs.
    worker.process.send_signal(signal.SIGHUP)
    assert "is being shut down" in forge.api.task(later)["waiting_for"]
    ended = scene.finish()
    assert (ended["state"], forge.api.log(scene.task)) == ("succeeded", b"begun\ndone\n")
    assert worker.process.wait(90) == 0
    assert "Traceback" not in worker.said() and "Told to end once more" not in worker.said()
    assert forge.api.task(later)["state"] == "queued"


def test_hup_means_nothing_under_nohup(forge: Deployment, tmp_path: Path) -> None:
    scene = Scene(forge, tmp_path, "nohup-1")
    worker = start(scene, signal.SIG_IGN)
    worker.process.send_signal(signal.SIGHUP)
    assert scene.finish()["state"] == "succeeded"
    again = forge.api.run_script(scene.project, "true")
    assert forge.api.wait_until(again)["state"] == "succeeded"
    assert worker.process.poll() is None


def test_usr2_means_nothing(forge: Deployment, tmp_path: Path) -> None:
    scene = Scene(forge, tmp_path, "usr2-1")
    worker = start(scene, signal.SIG_DFL)
    worker.process.send_signal(signal.SIGUSR2)
    assert scene.finish()["state"] == "succeeded"
    # What a task's own program makes of it is as it was.
    script = "trap 'echo caught; exit 0' USR2; kill -USR2 $$; sleep 60"
    caught = forge.api.run_script(scene.project, script)
    assert forge.api.wait_until(caught)["state"] == "succeeded"
    assert forge.api.log(caught) == b"caught\n"
    assert worker.process.poll() is None


def test_a_terminal_that_is_closed_does_not_take_the_tasks_along(
    forge: Deployment, tmp_path: Path
) -> None:
    scene = Scene(forge, tmp_path, "terminal-1")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    environment |= {"FORGE_URL": forge.place["url"], "FORGE_RUNNER_TOKEN": scene.runner.token}
    environment |= {"FORGE_RUNNER_DATA": str(tmp_path / "journals")}
    ours, terminal = pty.openpty()

    def own_terminal() -> None:
        die_with_parent()
        os.setsid()
        os.close(os.open(os.ttyname(terminal), os.O_RDWR))

    with hanging_up(signal.SIG_DFL):
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "runners.worker", "worker"],
            cwd=ROOT,
            env=environment,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            preexec_fn=own_terminal,
        )
    os.close(terminal)
    try:
        scene.begin_task()
        os.close(ours)
        forge.api.await_status(scene.runner.id, "draining")
        ended = scene.finish()
        assert (ended["state"], ended["log_complete"]) == ("succeeded", True)
        process.wait(90)
    finally:
        process.kill()
        process.wait()
