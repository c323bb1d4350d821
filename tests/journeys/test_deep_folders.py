"""A task leaves a folder that is hard to delete.

A folder in a folder in a folder, deeper than a program that recurses can follow; or so many files
that it takes a while.
"""

from __future__ import annotations

from pathlib import Path

import psutil

from runners.worker.supervision.server.removal import remove_folder
from tests.deployment.attempts import RETRY, Place
from tests.deployment.client import wait_for
from tests.deployment.deployment import Deployment, Worker

NEST = "pwd -P > {folder}/where\nfor _ in $(seq 1500); do mkdir d; cd d; done\necho begun\n"
# As quick as can be to make, and slow to delete.
FILL = """
import os
with open("{folder}/where", "w") as file:
    file.write(os.getcwd())
for number in range(50_000):
    os.mknod(str(number))
with open("{folder}/ledger", "a") as file:
    file.write(os.environ["FORGE_ATTEMPT"])
print("begun")
"""
WAIT = "until [ -e {folder}/gate ]; do sleep 0.1; done\n"


def _begin(forge: Deployment, place: Place, script: str) -> tuple[Worker, int, Path]:
    """The worker, the task, and the folder that it works in."""
    worker = forge.worker(place.runner("dug"))
    task = place.run("work", script=script)
    return worker, task, Path((place.folder / "work" / "where").read_text().strip())


def test_a_task_that_nests_folders_succeeds_and_leaves_none(
    forge: Deployment, tmp_path: Path
) -> None:
    place = Place(forge, "deep", tmp_path)
    worker, task, folder = _begin(forge, place, NEST)
    ended = forge.api.wait_until(task)
    assert (ended["state"], ended["reason"]) == (
        "succeeded",
        "The program ended with exit status 0.",
    )
    wait_for(lambda: not folder.exists(), "the folder is gone")
    worker.end()
    worker.start()
    after = forge.api.run_script(place.project, "echo next")
    assert forge.api.wait_until(after)["state"] == "succeeded", worker.said()


def test_a_worker_that_finds_nested_folders_removes_them_and_takes_the_next_task(
    forge: Deployment, tmp_path: Path
) -> None:
    place = Place(forge, "deep and killed", tmp_path)
    worker, task, folder = _begin(forge, place, NEST + WAIT)
    watchers = psutil.Process(worker.process.pid).children()
    worker.kill()
    wait_for(lambda: not any(map(psutil.Process.is_running, watchers)), "its processes are gone")
    assert folder.exists()
    try:
        worker.start()
        assert "was killed while it ran" in forge.api.wait_until(task)["reason"], worker.said()
        after = forge.api.run_script(place.project, "echo next")
        assert forge.api.wait_until(after)["state"] == "succeeded", worker.said()
        assert not folder.exists()
    finally:
        # Where the worker did not, nothing that recurses could clear away after this test.
        remove_folder(bytes(folder))


def test_what_has_ended_well_is_not_run_again_if_its_worker_is_killed_while_it_clears_away(
    forge: Deployment, tmp_path: Path
) -> None:
    place = Place(forge, "full and killed", tmp_path)
    worker = forge.worker(place.runner("filled"))
    task = place.run("work", script=FILL, app="python", **RETRY)
    folder = Path((place.folder / "work" / "where").read_text())
    try:
        # It is the first to go.
        wait_for(lambda: not list(folder.parent.glob("script*")), "the worker clears away")
        worker.kill()
        worker.start()
        ended = forge.api.wait_until(task)
        assert (ended["state"], ended["attempt"]) == ("succeeded", 1), ended["reason"]
        assert (place.folder / "work" / "ledger").read_text() == "1"
        wait_for(lambda: not folder.exists(), "the next worker has cleared away")
    finally:
        remove_folder(bytes(folder.parent))
