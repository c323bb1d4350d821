"""A host whose temporary files are cleaned away, the folder of a worker among them."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

from tests.deployment.client import wait_for
from tests.deployment.deployment import Deployment


def test_a_worker_whose_folder_is_deleted_takes_tasks_also_after_the_broker_was_away(
    forge: Deployment, open_folder: Path
) -> None:
    project = forge.api.project("Cleaned")
    runner = forge.api.runner(project, "cleaned-1", concurrency=2)
    worker = forge.worker(runner, FORGE_RUNNER_DATA=str(open_folder))
    gate = open_folder / "gate"
    held = forge.api.run_script(project, f"while [ ! -e {gate} ]; do sleep 0.05; done; echo on")
    forge.api.wait_until(held, "running")
    (folder,) = open_folder.glob("runner-*")
    shutil.rmtree(folder)
    forge.kill("broker")
    ended = forge.api.wait_until(forge.api.run_script(project, "echo heard"))
    assert ended["state"] == "succeeded", worker.said()
    gate.touch()
    long = forge.api.wait_until(held)
    assert (long["state"], forge.api.log(held)) == ("succeeded", b"on\n"), worker.said()
    made = (folder, *(path for path in folder.iterdir() if path.is_dir()))
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o700}
    said = worker.said()
    assert said.count(f"The socket {folder}/broker.sock was deleted, and is made anew.") == 1, said
    assert f"{folder} or a part of it was deleted, and is made anew." in said
    wait_for(lambda: forge.api.status(runner.id) == "idle", "nothing is wrong with it")
    # The next one knows that it worked here.
    worker.kill()
    with forge.away("web"):
        worker.start()
        wait_for(lambda: "so this worker waits for it" in worker.said(), "it waits for Forge")
    assert forge.api.wait_until(forge.api.run_script(project, "echo back"))["state"] == "succeeded"
