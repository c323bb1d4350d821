"""What is certain of an attempt whose worker was in a container, and was killed there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runners.worker.pid_space import PidSpace
from runners.worker.predecessor import End, Predecessor
from runners.worker.remains import Remains, Trail

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="needs process ids of its own"
)

# Notes a fork server, and ends like a worker that was killed.
WORKER = """
import sys
from pathlib import Path
from runners.worker.predecessor import Predecessor
Predecessor(Path(sys.argv[1])).note()
"""


def _run_in_container(notes: Path, script: str, first: str = "bash", host: str = "box") -> None:
    """`script` is what its first process, which is called `first`, does; `"$@"` is the worker."""
    prepare = f"hostname {host}; exec -a {first} {notes.parent / first} -c '{script}' x \"$@\""
    (notes.parent / first).symlink_to("/usr/bin/bash")
    unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--uts", "bash", "-c", prepare, "x"]
    command = [*unshare, sys.executable, "-c", WORKER, str(notes)]
    subprocess.run(command, cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("script", "first", "is_certain"),
    [
        ('exec "$@"', "bash", True),
        ('"$@"; true', "tini", True),
        # Whatever that is may go on, and start the worker again.
        ('"$@"; true', "supervisord", False),
    ],
)
def test_what_was_in_another_container_is_gone_if_that_ended_with_its_worker(
    script: str, first: str, is_certain: bool, tmp_path: Path
) -> None:
    notes = tmp_path / "fork-servers"
    _run_in_container(notes, script, first)
    found = Predecessor(notes)
    assert found.await_end() is End.KILLED
    trail = Trail(7, 1, "https://forge.example.net", tmp_path, found.origin)
    assert trail.end() == Remains(0, is_certain=is_certain)


def test_what_was_in_the_same_container_before_it_was_started_again_is_gone(tmp_path: Path) -> None:
    """Nothing has its host name twice."""
    notes = tmp_path / "fork-servers"
    _run_in_container(notes, '"$@"; true', "supervisord", PidSpace.here().host)
    found = Predecessor(notes)
    assert found.await_end() is End.KILLED
    trail = Trail(7, 1, "https://forge.example.net", tmp_path, found.origin)
    assert trail.end() == Remains(0, is_certain=True)


def test_of_containers_that_differ_nothing_is_certain(tmp_path: Path) -> None:
    notes = tmp_path / "fork-servers"
    _run_in_container(notes, 'exec "$@"', "one")
    _run_in_container(notes, 'exec "$@"', "two")
    found = Predecessor(notes)
    assert found.await_end() is End.KILLED
    trail = Trail(7, 1, "https://forge.example.net", tmp_path, found.origin)
    assert trail.end() == Remains(0, is_certain=False)


def test_a_host_does_not_end_and_what_is_not_known_is_looked_for_here() -> None:
    here = PidSpace.here()
    assert not here.is_other_than(here)
    assert not PidSpace().is_other_than(here)  # of an older worker's note
    assert not PidSpace("pid:[4026531836]", here.host).has_ended(here)
