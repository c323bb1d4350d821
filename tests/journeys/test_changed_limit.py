"""How many tasks a runner may run at once is changed while its worker runs."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tests.deployment.client import wait_for
from tests.deployment.deployment import Deployment


def test_a_worker_runs_as_many_at_once_as_its_runner_may_now(
    forge: Deployment, tmp_path: Path
) -> None:
    project = forge.api.project("Changed")
    runner = forge.api.runner(project, "changed-1", concurrency=1)
    worker = forge.worker(runner)
    script = f"echo begun; until [ -e {tmp_path}/$FORGE_TASK_ID ]; do sleep 0.05; done"
    template = forge.api.template(project, script)
    tasks = [forge.api.run(project, template) for _ in range(8)]

    def running() -> list[int]:
        return [task for task in tasks if forge.api.task(task)["state"] == "running"]

    def end(some: list[int]) -> None:
        for task in some:
            (tmp_path / str(task)).touch()
        forge.api.finished(some)

    def limit(concurrency: int) -> None:
        answer = forge.api.send("PATCH", f"runners/{runner.id}/", json={"concurrency": concurrency})
        assert answer.ok, answer.text

    wait_for(lambda: running() == tasks[:1], "one runs")
    limit(3)
    wait_for(lambda: len(running()) == 3, "three run")
    assert "at once from now on: 3, not 1." in worker.said()

    limit(1)
    wait_for(lambda: "from now on: 1, not 3." in worker.said(), "the worker knows of it")
    first = running()
    assert len(first) == 3
    for task in first[:2]:
        end([task])
        assert set(running()) <= set(first)
    end(first[2:])
    wait_for(lambda: len(running()) == 1, "the next one runs")
    end(running())
    wait_for(lambda: len(running()) == 1, "and the next")
    for task in tasks:
        (tmp_path / str(task)).touch()
    ended = forge.api.finished(tasks)
    assert {(task["state"], task["attempt"]) for task in ended} == {("succeeded", 1)}


def test_what_runs_counts_after_the_broker_was_away_too(forge: Deployment, tmp_path: Path) -> None:
    """With a new connection Celery forgets what it has running."""
    project = forge.api.project("Reconnected")
    runner = forge.api.runner(project, "again-1", concurrency=2)
    worker = forge.worker(runner)
    script = f"echo begun; until [ -e {tmp_path}/$FORGE_TASK_ID ]; do sleep 0.05; done"
    template = forge.api.template(project, script)
    tasks = [forge.api.run(project, template) for _ in range(6)]

    def begun() -> set[int]:
        return {task for task in tasks if forge.api.task(task)["started_at"]}

    def has_begun(count: int) -> bool:
        return len(begun()) >= count

    wait_for(lambda: len(begun()) == 2, "two run")
    forge.kill("broker")
    wait_for(lambda: "The broker answers again" in worker.said(), "it is connected again")
    for ended in range(1, 5):
        first = min(task for task in begun() if not (tmp_path / str(task)).exists())
        (tmp_path / str(first)).touch()
        forge.api.finished([first])
        wait_for(partial(has_begun, 2 + ended), "the next one runs")
        assert len(begun()) == 2 + ended
    for task in tasks:
        (tmp_path / str(task)).touch()
    assert {task["state"] for task in forge.api.finished(tasks)} == {"succeeded"}
