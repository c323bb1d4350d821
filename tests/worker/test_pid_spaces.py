"""What is certain of an attempt whose worker was in a container, and was killed there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runners.worker.origin import Origin
from runners.worker.pid_space import PidSpace
from runners.worker.predecessor import End, Predecessor
from runners.worker.remains import Remains, Trail
from runners.worker.supervision import boot_seconds

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


# What a worker finds that is started in a container, beside a service of that.
SEARCH = """
import json, os, sys
from pathlib import Path
from runners.worker.origin import Origin
from runners.worker.remains import Trail
noted = sys.argv[1].replace("NAME", os.readlink("/proc/self/ns/pid"))
origin, folder = Origin.read(json.loads(noted)), Path(sys.argv[2])
print(Trail(7, 1, "https://forge.example.net", folder, origin, uid=54321).end())
"""
BESIDE_A_SERVICE = """
setpriv --reuid 54321 --clear-groups sleep 1000 &
service=$!
until grep -q sleep /proc/$service/comm; do :; done
"$@"
kill -0 $service && echo spared
"""
UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc", "bash", "-c"]
UNSURE = Remains(0, is_certain=False)


def _run_in_container(notes: Path, script: str, first: str = "bash") -> None:
    """`script` is what its first process, which is called `first`, does; `"$@"` is the worker.

    The host name is that of this test, as where containers use their host's network.
    """
    (notes.parent / first).symlink_to("/usr/bin/bash")
    prepare = f"exec -a {first} {notes.parent / first} -c '{script}' x \"$@\""
    command = [*UNSHARE, prepare, "x", sys.executable, "-c", WORKER, str(notes)]
    subprocess.run(command, cwd=ROOT, check=True)


def _trail(folder: Path, notes: Path) -> Trail:
    found = Predecessor(notes)
    assert found.await_end() is End.KILLED
    return Trail(7, 1, "https://forge.example.net", folder, found.origin)


def _search(folder: Path, origin: Origin, script: str = '"$@"') -> list[str]:
    """What is said in a new container; `script` is all that happens in it, `"$@"` the worker."""
    noted = json.dumps(origin.as_json())
    command = [*UNSHARE, script, "x", sys.executable, "-c", SEARCH, noted, str(folder)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.splitlines()


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
    assert _trail(tmp_path, notes).end() == Remains(0, is_certain=is_certain)


def test_what_is_seen_of_it_is_ended_nevertheless(tmp_path: Path) -> None:
    notes = tmp_path / "fork-servers"
    _run_in_container(notes, 'exec "$@"')
    marks = {"FORGE_TASK_ID": "7", "FORGE_ATTEMPT": "1", "FORGE_URL": "https://forge.example.net"}
    with subprocess.Popen(["sleep", "1000"], env={"PATH": os.environ["PATH"], **marks}) as process:
        try:
            assert _trail(tmp_path, notes).end() == Remains(1, is_certain=True)
        finally:
            process.kill()


def test_of_several_containers_nothing_is_certain(tmp_path: Path) -> None:
    notes = tmp_path / "fork-servers"
    notes.mkdir()
    for name in ("pid:[1]", "pid:[2]"):
        origin = Origin(boot_seconds(), space=PidSpace(name, 1, ends_with=True))
        (notes / name).write_text(json.dumps(origin.as_json()))
    assert _trail(tmp_path, notes).end() == UNSURE


@pytest.mark.parametrize(
    ("noted", "is_certain"),
    [
        (PidSpace("pid:[1]", 1), False),
        # The kernel gives a name again, but not while the one before lives.
        (PidSpace("NAME", 1), True),
        (PidSpace("NAME"), False),
    ],
)
def test_a_user_of_another_container_is_somebody_else_here(
    noted: PidSpace, is_certain: bool, tmp_path: Path
) -> None:
    """Such as a service that has the number which a task had there."""
    expected = Remains(0, is_certain=is_certain)
    found = _search(tmp_path, Origin(heirs=((1, 1),), space=noted), BESIDE_A_SERVICE)
    assert found == [str(expected), "spared"]


@pytest.mark.parametrize(
    ("noted", "is_certain"),
    [(PidSpace(), False), (PidSpace("pid:[1]", 1), False), (PidSpace("pid:[1]", 1, True), True)],
)
def test_in_a_container_it_has_to_be_known_that_the_one_before_has_ended(
    noted: PidSpace, is_certain: bool, tmp_path: Path
) -> None:
    """A full disk, and a worker of an older version, leave a note without it."""
    expected = Remains(0, is_certain=is_certain)
    assert _search(tmp_path, Origin(space=noted)) == [str(expected)]


def test_a_host_does_not_end_and_what_is_not_known_is_looked_for_on_it() -> None:
    host = PidSpace("pid:[4026531836]", 1)
    assert not host.is_other_than(host)
    assert not PidSpace().is_other_than(host)
    assert not host.has_ended(PidSpace("pid:[1]", 1))
