"""A program whose start hangs, as where its interpreter lies on a file system that is away."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployment.client import Runner, wait_for
from tests.deployment.deployment import Deployment, Worker
from tests.stalled import stalled


class Scene:
    """A runner with two slots, on one of which the start of a Python script hangs."""

    def __init__(self, forge: Deployment, place: Path) -> None:
        self.forge = forge
        self.project = forge.api.project(place.parent.name)
        self.runner: Runner = forge.api.runner(self.project, "hung-1", concurrency=2)
        path = f"{place}{os.pathsep}{os.environ['PATH']}"
        self.worker: Worker = forge.worker(self.runner, PATH=path)
        self.task = forge.api.run_script(self.project, "print('ran')", app="python")

    def assert_stopped(self) -> None:
        task = self.forge.api.wait_until(self.task)
        assert (task["state"], task["started_at"]) == ("stopped", None)
        assert b"ran" not in self.forge.api.log(self.task)


@pytest.fixture
def scene(forge: Deployment, tmp_path: Path) -> Iterator[Scene]:
    # Not of python3, which may be a script that wants other programs.
    with stalled(tmp_path / "bin" / "python3", of="bash") as program:
        scene = Scene(forge, program.path.parent)
        wait_for(program.is_awaited, "the start hangs")
        yield scene


def test_the_runner_goes_on_and_the_task_can_be_stopped(scene: Scene) -> None:
    other = scene.forge.api.run_script(scene.project, "echo here")
    assert scene.forge.api.wait_until(other)["state"] == "succeeded"
    scene.forge.api.post(f"tasks/{scene.task}/stop")
    scene.assert_stopped()
    assert "Traceback" not in scene.worker.said()


def test_the_worker_ends_at_its_second_signal(scene: Scene) -> None:
    scene.worker.process.send_signal(signal.SIGTERM)
    wait_for(lambda: "waiting for #" in scene.worker.said(), "it waits for the task")
    scene.worker.process.send_signal(signal.SIGTERM)
    assert scene.worker.process.wait(120) == 0
    scene.assert_stopped()
