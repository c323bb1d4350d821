"""What tasks wait for while Forge is whole: each cause is named, cured, and the task starts.

What takes away the controller, the broker or a disk is in test_waiting.py.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import broker as real_broker
from tests.deployment.production import Production
from tests.deployment.scene import HOLD, Scene

# A worker that hangs is not given up while a test looks at what waits for it.
SERVER = {"FORGE_OFFLINE_SECONDS": "90"}


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    folder = tmp_path_factory.mktemp("causes")
    with Production(folder, broker=[real_broker.binaries()["valkey"]], server=SERVER) as production:
        yield production


@pytest.fixture
def scene(forge: Production, tmp_path: Path) -> Iterator[Scene]:
    with Scene(forge, tmp_path) as scene:
        yield scene


# Runners that may not, or do not yet


def test_all_of_several_refuse_tasks_without_tags(scene: Scene) -> None:
    picky = scene.worker("picky-1", tags=["linux"], takes_untagged=False)
    scene.runner("picky-2", tags=["linux"], takes_untagged=False)
    task = scene.run()
    scene.waits(task, "^All 2 runners refuse tasks without tags\\.$")
    scene.change(f"runners/{picky.runner.id}/", takes_untagged=True)
    scene.starts(task)


def test_the_only_runner_refuses_tasks_without_tags(scene: Scene) -> None:
    """Cured at the runner itself, not by another beside it."""
    picky = scene.worker("picky-1", tags=["linux"], takes_untagged=False)
    task = scene.run()
    scene.waits(task, "^picky-1, the only runner, refuses tasks without tags\\.$")
    scene.change(f"runners/{picky.runner.id}/", takes_untagged=True)
    scene.starts(task)


def test_none_of_several_has_connected(scene: Scene) -> None:
    first = scene.runner("new-1")
    scene.runner("new-2")
    task = scene.run()
    scene.waits(task, "^None of the 2 runners that may take it has connected yet\\.$")
    scene.start(first)
    scene.starts(task)


def test_the_only_runner_is_offline(scene: Scene) -> None:
    worker = scene.worker("off-1")
    worker.end()
    scene.api.await_status(worker.runner.id, "offline")
    task = scene.run()
    sentence = "^off-1, the only runner that may take it, is offline, last heard less than a minute"
    scene.waits(task, f"{sentence} ago\\.$")
    worker.start()
    scene.starts(task)


def test_more_runners_are_kept_than_are_named(scene: Scene) -> None:
    runners = [scene.runner(f"many-{number}") for number in range(1, 6)]
    scene.api.post(f"runners/{runners[0].id}/pause", reason="Rack moves")
    task = scene.run()
    found = scene.waits(task, "^None of the 5 runners that may take it is ready: ")
    assert "many-1 has not connected yet, and is paused by" in found
    assert found.endswith("; many-3 has not connected yet; and 2 more.")
    scene.start(runners[4])
    scene.starts(task)


# Runners that end


def test_the_runner_is_being_drained_by_whom_and_why(scene: Scene) -> None:
    worker = scene.worker("drains-1", concurrency=2)
    running, gate = scene.hold()
    path = f"runners/{worker.runner.id}/drain"
    scene.api.post(path, reason="Kernel update.", stays_paused=False)
    task = scene.run()
    who = scene.forge.seeded["username"]
    words = f"is being drained by {who}: Kernel update"
    scene.waits(task, f"^drains-1, the only runner that may take it, {words}\\.$")
    gate.touch()
    assert worker.process.wait(60) == 0
    scene.starts(running)
    assert scene.api.task(task)["state"] == "queued"
    worker.start()
    scene.starts(task)


def test_the_runner_is_being_shut_down(scene: Scene) -> None:
    worker = scene.worker("ends-1", concurrency=2)
    running, gate = scene.hold()
    worker.process.terminate()
    scene.api.await_status(worker.runner.id, "draining")
    task = scene.run()
    scene.waits(task, "^ends-1, the only runner that may take it, is being shut down\\.$")
    gate.touch()
    assert worker.process.wait(60) == 0
    scene.starts(running)
    assert scene.api.task(task)["state"] == "queued"
    worker.start()
    scene.starts(task)


def test_a_drain_after_which_it_stays_paused(scene: Scene) -> None:
    """To cancel the drain is enough: that ends the pause as well."""
    worker = scene.worker("stays-1", concurrency=2)
    running, gate = scene.hold()
    path = f"runners/{worker.runner.id}"
    scene.api.post(f"{path}/drain", reason="Kernel update", stays_paused=True)
    task = scene.run()
    who = scene.forge.seeded["username"]
    words = f"is being drained by {who}: Kernel update"
    scene.waits(task, f"^stays-1, the only runner that may take it, {words}\\.$")
    scene.api.post(f"{path}/resume")
    scene.starts(task)
    gate.touch()
    scene.starts(running)


@pytest.mark.parametrize(
    ("is_killed", "silence"),
    [(False, "is shut down"), (True, "is offline, last heard .* ago")],
    ids=["ended", "killed"],
)
def test_a_paused_runner_that_does_not_run_either(
    is_killed: bool, silence: str, tmp_path: Path
) -> None:
    """Both have to end, so both are named; the one that is left is named alone."""
    server = {"FORGE_OFFLINE_SECONDS": "3"}
    with (
        Production(tmp_path, broker=[real_broker.binaries()["valkey"]], server=server) as forge,
        Scene(forge, tmp_path) as scene,
    ):
        worker = scene.worker("gone-1")
        path = f"runners/{worker.runner.id}"
        scene.api.post(f"{path}/pause", reason="Rack moves")
        worker.kill() if is_killed else worker.end()
        task = scene.run()
        whole = f"^gone-1, the only runner that may take it, {silence}"
        scene.waits(task, f"{whole}, and is paused by .*: Rack moves\\.$")
        scene.api.post(f"{path}/resume")
        scene.waits(
            task, "^gone-1, the only runner that may take it, is offline, last heard [^:]*$"
        )
        worker.start()
        scene.starts(task)


# What ends by itself, and what does not


def test_no_runner_has_the_tags_and_the_limit_is_reached(scene: Scene) -> None:
    """The end of the other task would not start it; the limit is told of beside it."""
    scene.worker(tags=["linux"])
    scene.change(f"projects/{scene.project}/", max_parallel_tasks=1)
    _, gate = scene.hold()
    task = scene.run(tags=["gpu"])
    scene.waits(task, "^No runner has the tag gpu\\.$")
    limit = "The project runs 1 of at most 1 at once."
    assert limit in scene.reader.get(f"{scene.forge.web_url}/tasks/{task}/").text
    scene.worker(tags=["gpu"])
    scene.says(task, limit)
    gate.touch()
    scene.starts(task)


# Runners that are busy


def test_the_only_runner_is_busy(scene: Scene) -> None:
    scene.worker("sole-1", concurrency=1)
    _, gate = scene.hold()
    first, task = scene.run(), scene.run()
    scene.waits(first, "^sole-1, the only runner for it, is busy, and it is next\\.$")
    scene.waits(task, "^sole-1, the only runner for it, is busy, and 1 task is ahead\\.$")
    gate.touch()
    scene.starts(task)


def test_those_that_are_ready_are_busy(scene: Scene) -> None:
    scene.worker("ready-1", concurrency=1)
    _, gate = scene.hold()
    last = scene.runner("ready-3")
    task = scene.run()
    scene.waits(task, "^Of the 2 runners for it one is ready, but busy, and it is next\\.$")
    scene.worker("ready-2", concurrency=1)
    scene.starts(task)
    scene.hold()
    task = scene.run()
    scene.waits(task, "^Of the 3 runners for it 2 are ready, but busy, and it is next\\.$")
    assert scene.api.status(last.id) == "never_contacted"
    gate.touch()
    scene.starts(task)


# Other tasks


def test_an_earlier_task_of_the_template_comes_first(scene: Scene) -> None:
    """The earlier one waits for what the later one no longer requires."""
    scene.worker(tags=["linux"])
    template = scene.api.template(scene.project, "true", allow_parallel=False, tags=["gpu"])
    first = scene.api.run(scene.project, template)
    scene.change(f"templates/{template}/", tags=["linux"])
    task = scene.api.run(scene.project, template)
    scene.waits(first, "^No runner has the tag gpu\\.$")
    words = "of this template comes first, and it allows one run at a time"
    scene.waits(task, f"^#{first} {words}\\.$")
    scene.api.post(f"tasks/{first}/stop")
    scene.starts(task)


def test_a_change_of_the_template_is_for_later_tasks(scene: Scene) -> None:
    """Nobody is told to change it for the sake of a task that waits already."""
    scene.worker(concurrency=4)
    gate = scene.folder / "gate"
    template = scene.api.template(scene.project, HOLD.format(gate=gate), allow_parallel=False)
    holder = scene.api.run(scene.project, template)
    scene.api.wait_until(holder, "running")
    task = scene.api.run(scene.project, template)
    scene.waits(task, f"^#{holder} of this template is running, and it allows one run at a time")
    scene.change(f"templates/{template}/", allow_parallel=True)
    words = "and this task was queued when it allowed one run at a time"
    scene.waits(task, f"^#{holder} of this template is running, {words}\\.$")
    page = scene.reader.get(f"{scene.forge.web_url}/tasks/{task}/").text
    assert "keeps to what its template said when it was queued" in page
    later = scene.api.run(scene.project, template)
    scene.api.wait_until(later, "running")
    gate.touch()
    scene.starts(task)


def test_others_were_announced_first(scene: Scene) -> None:
    """Their runner hangs: what was announced to it counts until it takes that."""
    worker = scene.worker("hangs-1", concurrency=4)
    scene.change(f"projects/{scene.project}/", max_parallel_tasks=2)
    _, gate = scene.hold()
    os.kill(worker.process.pid, signal.SIGSTOP)
    try:
        first, second = scene.run(), scene.run()
        # Nothing hinders it, as far as anybody knows.
        scene.says(first, "hangs-1 is free and takes it in a moment.")
        words = f"at once, and #{first} was announced to a runner first"
        scene.waits(second, f"^The project runs 1 of at most 2 {words}\\.$")
        scene.change(f"projects/{scene.project}/", max_parallel_tasks=3)
        scene.says(second, "hangs-1 is free, and 1 task is ahead.")
        task = scene.run()
        words = f"at once, and #{first} and 1 more were announced to a runner first"
        scene.waits(task, f"^The project runs 1 of at most 3 {words}\\.$")
    finally:
        os.kill(worker.process.pid, signal.SIGCONT)
    for one in (first, second, task):
        scene.starts(one)
    gate.touch()


# Forge itself


def test_no_controller_has_run_yet(tmp_path: Path) -> None:
    binary = real_broker.binaries()["valkey"]
    with (
        Production(tmp_path, broker=[binary], has_controller=False) as forge,
        Scene(forge, tmp_path) as scene,
    ):
        worker = scene.worker()
        # The web process itself announces what it queues, but to no runner that is paused.
        scene.api.post(f"runners/{worker.runner.id}/pause", reason="Rack moves")
        task = scene.run()
        scene.api.post(f"runners/{worker.runner.id}/resume")
        words = "and only it hands out what waits\\. Start one"
        scene.waits(task, f"^No controller has run yet, {words}\\.$")
        assert worker.process.poll() is None
        forge.start_controller()
        scene.starts(task)
