"""What a runner may take is changed while its worker runs, and its worker is told to end."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.deployment.client import wait_for
from tests.deployment.deployment import ROOT, Deployment, Worker


def queues_left(worker: Worker) -> set[str]:
    """By its log; one line, or several where the broker cut its connection meanwhile."""
    lines = re.findall(r"No longer listening to (.+)\.$", worker.said(), re.MULTILINE)
    return {name for line in lines for name in line.split(", ")}


def test_a_runner_takes_at_once_what_its_new_tags_let_it(forge: Deployment, tmp_path: Path) -> None:
    project = forge.api.project("Retagged")
    runner = forge.api.runner(project, "tags-1", tags=["old"])
    worker = forge.worker(runner)
    path = f"runners/{runner.id}/"
    slow = forge.api.template(
        project, f"until [ -e {tmp_path}/end ]; do sleep 0.05; done", tags=["old"]
    )
    running = forge.api.run(project, slow)
    forge.api.wait_until(running, "running")
    new = forge.api.template(project, "echo new", name="New", tags=["new"])
    waiting = forge.api.run(project, new)
    assert "No runner has" in forge.api.task(waiting)["waiting_for"]

    forge.api.send("PATCH", path, json={"tags": ["new"], "takes_untagged": False})
    assert forge.api.wait_until(waiting, "succeeded")["attempt"] == 1
    wait_for(lambda: {"tasks", "tasks.old"} <= queues_left(worker), "it obeys")
    again = forge.api.run(project, slow)
    plain = forge.api.run_script(project, "true")
    (tmp_path / "end").touch()
    assert forge.api.wait_until(running, "succeeded")["attempt"] == 1
    assert {forge.api.task(task)["state"] for task in (again, plain)} == {"queued"}
    assert forge.api.task(plain)["waiting_for"] == (
        "tags-1, the only runner, refuses tasks without tags."
    )

    forge.api.send("PATCH", path, json={"tags": ["new", "old"], "takes_untagged": True})
    assert {task["state"] for task in forge.api.finished([again, plain])} == {"succeeded"}
    assert worker.process.poll() is None


# Whatever it waits for, it goes on to wait for as long as no test lasts.
PATIENT = """
import sys

if "worker" in sys.orig_argv:
    import runners.worker.node as node

    node.BRPOP_SECONDS = 3600
"""


def test_a_worker_does_not_wait_out_what_it_listened_to_before(
    forge: Deployment, tmp_path: Path
) -> None:
    project = forge.api.project("New queues")
    runner = forge.api.runner(project, "patient-1", tags=["some", "other"])
    (tmp_path / "sitecustomize.py").write_text(PATIENT)
    worker = forge.worker(runner, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert forge.api.wait_until(forge.api.run_script(project, "true"))["state"] == "succeeded"
    for tags in (["some"], ["other"], ["some", "other"]):
        new = forge.api.run_script(project, "true", tags=tags)
        assert forge.api.wait_until(new)["state"] == "succeeded", worker.said()
    assert "Traceback" not in worker.said()


def test_a_worker_outlives_that_its_queues_change_over_and_over(forge: Deployment) -> None:
    """The broker refuses a queue in the moment in which the worker does not know yet."""
    project = forge.api.project("Turned")
    runner = forge.api.runner(project, "turns-1", tags=["a"])
    worker = forge.worker(runner)
    forge.api.template(project, "true", tags=["a"])
    for _ in range(10):
        for change in ({"tags": ["b"], "takes_untagged": False}, {"tags": ["a"]}):
            forge.api.send("PATCH", f"runners/{runner.id}/", json=change)
    forge.api.send("PATCH", f"runners/{runner.id}/", json={"takes_untagged": True})
    task = forge.api.run_script(project, "true")
    assert forge.api.wait_until(task, "succeeded")["attempt"] == 1
    assert worker.process.poll() is None and "Traceback" not in worker.said()


def test_a_drained_runner_ends_after_its_task_and_stays_paused(
    forge: Deployment, tmp_path: Path
) -> None:
    project = forge.api.project("Drained")
    runner = forge.api.runner(project, "drains-1", concurrency=2)
    worker = forge.worker(runner)
    script = f"echo begun; until [ -e {tmp_path}/end ]; do sleep 0.05; done"
    task = forge.api.run_script(project, script)
    forge.api.await_output(task, b"begun")
    forge.api.post(f"runners/{runner.id}/drain", reason="Kernel update")
    wait_for(lambda: "No longer listening to tasks" in worker.said(), "it takes nothing new")
    assert forge.api.status(runner.id) == "draining"
    waiting = forge.api.run_script(project, "true")
    (tmp_path / "end").touch()
    assert forge.api.wait_until(task, "succeeded")["attempt"] == 1
    assert worker.process.wait(60) == 0
    (said,) = [line for line in worker.said().splitlines() if "Forge tells this worker" in line]
    assert said.endswith(": Kernel update")
    forge.api.await_status(runner.id, "paused")

    heard = forge.api.get(f"runners/{runner.id}/")["last_heartbeat_at"]
    worker.start()
    wait_for(
        lambda: forge.api.get(f"runners/{runner.id}/")["last_heartbeat_at"] != heard, "it is back"
    )
    assert forge.api.status(runner.id) == "paused"
    assert forge.api.task(waiting)["state"] == "queued"
    assert "Kernel update" in forge.api.task(waiting)["waiting_for"]
    forge.api.post(f"runners/{runner.id}/resume")
    forge.api.wait_until(waiting, "succeeded")


def test_a_drain_is_taken_back_while_a_task_runs(forge: Deployment, tmp_path: Path) -> None:
    project = forge.api.project("Drained by mistake")
    runner = forge.api.runner(project, "stays-1", concurrency=2)
    worker = forge.worker(runner)
    script = f"echo begun; until [ -e {tmp_path}/end ]; do sleep 0.05; done"
    task = forge.api.run_script(project, script)
    forge.api.await_output(task, b"begun")
    forge.api.post(f"runners/{runner.id}/drain", reason="Kernel update")
    wait_for(lambda: "No longer listening to tasks" in worker.said(), "it takes nothing new")
    waiting = forge.api.run_script(project, "true")
    assert forge.api.post(f"runners/{runner.id}/resume")["status"] == "busy"
    assert forge.api.wait_until(waiting, "succeeded")["attempt"] == 1
    (tmp_path / "end").touch()
    assert forge.api.wait_until(task, "succeeded")["attempt"] == 1
    # It is asked for more after that, so it has heard that it may go on.
    forge.api.wait_until(forge.api.run_script(project, "true"), "succeeded")
    assert worker.process.poll() is None and "tells this worker to end" not in worker.said()
