"""A runner whose disk is full: what it runs ends with a reason, what it cannot take others take."""

from __future__ import annotations

from pathlib import Path

from tests.deployment.client import wait_for
from tests.deployment.deployment import Deployment, processes_with
from tests.deployment.full_disk import fill

MARKER = "forge-full-disk-test-5512"


def test_tasks_end_with_a_reason_and_later_ones_run_once_there_is_room(
    forge: Deployment, small_disk: Path
) -> None:
    project = forge.api.project("Full disk")
    runner = forge.api.runner(project, "full-1")
    worker = forge.worker(runner, FORGE_RUNNER_DATA=str(small_disk / "journals"))
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 12_000_000)
    script = f"trap '' PIPE; head -c 40000000 /dev/zero; exec -a {MARKER} sleep 600"
    task = forge.api.run_script(project, script)
    ended = forge.api.wait_until(task)
    why = "what it wrote cannot be kept on the runner's disk: No space left on device"
    assert (ended["state"], ended["reason"]) == ("failed", f"It was ended: {why}.")
    assert f"Task {task} is ended: {why}." in worker.said()
    assert "Traceback" not in worker.said()
    wait_for(lambda: not processes_with(MARKER), "nothing of it is left")
    ballast.unlink()
    later = forge.api.wait_until(forge.api.run_script(project, "echo room again"))
    assert (later["state"], later["log_complete"]) == ("succeeded", True), worker.said()


def test_a_runner_without_room_leaves_what_waits_to_its_sibling(
    forge: Deployment, small_disk: Path, tmp_path: Path
) -> None:
    project = forge.api.project("One full, one not")
    good = forge.api.runner(project, "good-1", concurrency=1)
    full = forge.api.runner(project, "full-2", concurrency=4)
    forge.worker(good)
    worker = forge.worker(full, FORGE_RUNNER_DATA=str(small_disk / "journals"))
    fill(small_disk)
    gate = tmp_path / "gate"
    held = forge.api.run_script(project, f"while [ ! -e {gate} ]; do sleep 0.05; done")
    assert forge.api.wait_until(held, "running")["runner"] == good.id
    # With the sibling busy, the hints of these reach nobody else.
    tasks = [forge.api.run_script(project, "true") for _ in range(6)]
    forge.api.await_status(full.id, "unhealthy")
    said = forge.api.get(f"runners/{full.id}/")["trouble"]
    assert said == "The journal cannot be written: No space left on device"
    words = "Of the 2 runners for it one is ready, but busy"
    wait_for(
        lambda: all(forge.api.task(one)["waiting_for"].startswith(words) for one in tasks),
        "none of them counts on the runner that is full",
    )
    gate.touch()
    ended = forge.api.finished([held, *tasks])
    assert {(one["state"], one["runner"]) for one in ended} == {("succeeded", good.id)}
    assert worker.said().count(said) == 1, worker.said()
