"""What whoever may use Flower can order by it: nothing that decides over Forge's head."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.deployment.client import Runner, wait_for
from tests.deployment.deployment import Deployment, Worker

GATED = "echo begun; while [ ! -e {gate} ]; do sleep 0.05; done; echo done"
REFUSED = "A runner takes no such order; stop tasks and change runners in Forge."


class Scene:
    """A runner with one slot, its worker, a task that runs until `gate` is there, and Flower."""

    def __init__(self, forge: Deployment, folder: Path, name: str) -> None:
        self.forge = forge
        self.gate = folder / "gate"
        self.project = forge.api.project(name)
        self.runner: Runner = forge.api.runner(self.project, name, concurrency=1)
        self.worker: Worker = forge.worker(self.runner)
        self.node = f"runner-{self.runner.id}@{name}"
        self.running = forge.api.run_script(self.project, GATED.format(gate=self.gate))
        forge.api.await_output(self.running, b"begun")
        self._session = requests.Session()
        self._session.auth = (forge.place["username"], forge.place["password"])

    def order(self, path: str, **fields: str) -> requests.Response:
        url = f"{self.forge.place['flower_url']}/api/{path}"
        return self._session.post(url, data=fields, timeout=60)

    def await_flower(self) -> None:
        """Flower takes orders only for workers that it has seen."""
        url = f"{self.forge.place['flower_url']}/api/workers?refresh=1"
        wait_for(lambda: self.node in self._session.get(url, timeout=60).json(), "Flower knows it")

    def finish(self, *tasks: int) -> None:
        self.gate.touch()
        found = self.forge.api.finished([self.running, *tasks])
        assert [task["state"] for task in found] == ["succeeded"] * len(found)


@pytest.fixture
def scene(request: pytest.FixtureRequest, forge: Deployment, tmp_path: Path) -> Iterator[Scene]:
    name = request.node.originalname.removeprefix("test_").split("_")[1]
    scene = Scene(forge, tmp_path, f"orders-{name}")
    scene.await_flower()
    yield scene
    scene.gate.touch()
    scene.worker.end()


def test_a_revoked_attempt_still_runs(scene: Scene) -> None:
    """Forge knows nothing of it, and would put out the attempt's hint over and over."""
    waiting = scene.forge.api.run_script(scene.project, "echo waited")
    assert scene.order(f"task/revoke/{waiting}.1").ok
    assert scene.order(f"task/revoke/{scene.running}.1", terminate="true").ok
    wait_for(
        lambda: scene.worker.said().count("The control command revoke was refused") == 2,
        "the worker says that it takes no such order",
    )
    scene.finish(waiting)
    assert "Traceback" not in scene.worker.said()


def test_what_would_hold_tasks_up_is_refused_with_the_reason(scene: Scene) -> None:
    orders = {
        f"worker/pool/grow/{scene.node}": {"n": "1"},
        f"worker/pool/shrink/{scene.node}": {"n": "1"},
        f"worker/pool/autoscale/{scene.node}": {"min": "1", "max": "2"},
        f"worker/queue/add-consumer/{scene.node}": {"queue": "elsewhere"},
        f"worker/queue/cancel-consumer/{scene.node}": {"queue": "tasks"},
    }
    for path, fields in orders.items():
        answer = scene.order(path, **fields)
        assert (answer.status_code, REFUSED in answer.text + answer.reason) == (403, True), path
    scene.finish(scene.forge.api.run_script(scene.project, "echo waited"))
    assert "Traceback" not in scene.worker.said()


def test_a_shutdown_drains(scene: Scene) -> None:
    assert scene.order(f"worker/shutdown/{scene.node}").ok
    scene.forge.api.await_status(scene.runner.id, "draining")
    wait_for(lambda: "Warm shutdown: " in scene.worker.said(), "it says so")
    scene.finish()
    assert scene.worker.process.wait(90) == 0
