"""Folders that nobody needs any more are out of the way at once, and deleted later."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runners.worker.agent import Agent
from runners.worker.task_users import TaskUser
from runners.worker.workplace import Workplace, Workplaces
from tests.deployment.client import wait_for
from tests.worker.connected import FOLDER, agent_in
from tests.worker.test_mounted_folders import UNSHARE, needs_mounts

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs a subreaper")

ROOT = Path(__file__).parents[2]


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Workplaces]:
    made = Workplaces(tmp_path, {}, is_shared=False)
    made.clear()
    yield made
    made.clearance.close(is_calm=True)
    made.close()


def filled(places: Workplaces, task: int = 7) -> Workplace:
    place = places.of(task, 1, None, has_secrets=False)
    place.make()
    (place.folder / "file").touch()
    return place


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_the_folder_of_an_attempt_is_out_of_reach_at_once_and_deleted_later(
    places: Workplaces, tmp_path: Path
) -> None:
    place = filled(places)
    place.remove()
    assert not place.place.exists()
    assert stat.S_IMODE((tmp_path / "gone").stat().st_mode) == 0o700
    # The same attempt may be taken once more, while what was there is still being deleted.
    filled(places).remove()
    assert left_in(tmp_path / "gone").count("file") == 2
    places.clearance.start()
    wait_for(lambda: not os.listdir(tmp_path / "gone"), "all of it is deleted")


def test_what_an_earlier_worker_left_keeps_no_start_waiting_and_is_deleted(
    places: Workplaces, tmp_path: Path
) -> None:
    filled(places, task=7).remove()
    held = filled(places, task=8)
    later = Workplaces(tmp_path, {}, is_shared=False)
    later.clear()
    assert not held.place.exists() and left_in(tmp_path / "work") == []
    assert left_in(tmp_path / "gone").count("file") == 2
    later.clearance.start()
    wait_for(lambda: not os.listdir(tmp_path / "gone"), "all of it is deleted")
    later.clearance.close(is_calm=True)


def test_what_cannot_be_put_aside_is_deleted_at_once(places: Workplaces, tmp_path: Path) -> None:
    (tmp_path / "gone").rmdir()
    (tmp_path / "gone").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    place = filled(places)
    place.remove()
    assert not place.place.exists() and left_in(tmp_path / "elsewhere") == []


def test_a_link_that_an_operator_has_put_in_place_of_the_folder_of_all_tasks_stays(
    tmp_path: Path,
) -> None:
    elsewhere = tmp_path / "large-disk"
    elsewhere.mkdir()
    (tmp_path / "work").symlink_to(elsewhere)
    places = Workplaces(tmp_path, {}, is_shared=False)
    places.clear()
    assert (tmp_path / "work").is_symlink()
    place = filled(places)
    place.remove()
    assert not place.place.exists()


MOUNTED = """
import os, sys
from pathlib import Path
from runners.worker.workplace import Workplaces
places = Workplaces(Path(sys.argv[1]), {}, is_shared=False)
place = places.of(7, 1, None, has_secrets=False)
sys.argv[2] == "end" and place.remove()
sys.argv[2] == "start" and places.clear()
places.clearance.start()
places.clearance.close(is_calm=True)
"""


@needs_mounts
@pytest.mark.parametrize("by", ["end", "start"])
@pytest.mark.parametrize("where", ["work", "work/7-1", "work/7-1/folder", "work/7-1/folder/a"])
def test_what_is_mounted_keeps_its_files(where: str, by: str, tmp_path: Path) -> None:
    outside, data = tmp_path / "outside", tmp_path / "data"
    (outside / "7-1" / "folder").mkdir(parents=True)
    kept = outside / "kept"
    kept.write_text("kept")
    (data / where).mkdir(parents=True)
    (data / "own").touch()
    script = 'mount --bind "$1" "$2"; exec "$3" -c "$4" "$5" "$6"'
    given = [str(outside), str(data / where), sys.executable, MOUNTED, str(data), by]
    subprocess.run([*UNSHARE, "sh", "-ec", script, "sh", *given], check=True, cwd=ROOT)
    assert kept.read_text() == "kept"
    # What is mounted on the folder of all tasks is where they work: an attempt's is its own there.
    assert (outside / "7-1").exists() == (where != "work" or by == "start")


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    with agent_in(tmp_path) as made:
        yield made


@on_linux
def test_a_slot_is_free_before_the_folder_of_its_task_is_deleted(
    agent: Agent, tmp_path: Path
) -> None:
    agent.connect()
    for task in (7, 8):
        assert agent.run(task, 1)["outcome"] == "succeeded"
    gone = tmp_path / FOLDER / "gone"
    assert left_in(gone).count("file") == 2
    agent.keep_in_touch()
    wait_for(lambda: not os.listdir(gone), "both are deleted")


@on_linux
def test_a_worker_that_starts_is_in_touch_with_forge_before_it_deletes_what_is_left(
    agent: Agent, tmp_path: Path
) -> None:
    folder = tmp_path / FOLDER
    killed = Workplaces(folder, {}, is_shared=False)
    (folder / "work").mkdir(parents=True)
    filled(killed)
    agent.connect()
    assert left_in(folder / "work") == [] and left_in(folder / "gone").count("file") == 1
    agent.keep_in_touch()
    wait_for(lambda: not os.listdir(folder / "gone"), "it is deleted")


class Fails(Workplace):
    def remove(self) -> None:
        super().remove()
        raise MemoryError


class FailsToRemove(Workplaces):
    def of(
        self, task: int, attempt: int, user: TaskUser | None, *, has_secrets: bool = True
    ) -> Workplace:
        made = super().of(task, attempt, user, has_secrets=has_secrets)
        return Fails(made.place, made.secrets, made.user, made.clearance)


@on_linux
def test_an_attempt_whose_folder_cannot_be_removed_has_ended_all_the_same(
    agent: Agent, tmp_path: Path
) -> None:
    """The worker would wait for it at its end for ever."""
    agent.connect()
    agent.workplaces = FailsToRemove(tmp_path / FOLDER, {}, is_shared=False)
    with pytest.raises(MemoryError):
        agent.run(7, 1)
    assert not list(agent.runs)
    entry = agent.journal.get(7, 1)
    assert entry is not None and entry.result is not None
