"""What is found, ended and suspected of an attempt that nobody watches over any more."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from runners.worker.origin import Origin, find_heirs
from runners.worker.remains import Remains, Trail
from runners.worker.supervision import boot_seconds
from tests.deployment.client import wait_for
from tests.worker.heirs import GONE, MARKS, SLEEP, UNSURE, URL, Heir, is_over, trail

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and a subreaper")

ROOT = Path(__file__).resolve().parents[2]
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a script in a session of its own, and returns once it has written a line."""
    started: list[subprocess.Popen[bytes]] = []

    def do_start(
        script: str, folder: Path = Path("/"), **environment: str
    ) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            ["bash", "-c", script],
            cwd=folder,
            env={"PATH": os.environ["PATH"], **environment},
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout is not None and process.stdout.readline()
        return process

    yield do_start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


# What is ended


def test_what_has_its_marks_is_ended_with_all_below_it(
    heir: Heir, folder: Path, start: Start
) -> None:
    """Whosever child it is."""
    stubborn = "trap '' INT TERM HUP; env -i sleep 1000 & echo begun; wait; wait"
    process = start(stubborn, **MARKS)
    below = psutil.Process(process.pid).children()[0]
    assert trail(folder, heir.origin).end() == Remains(2, is_certain=True)
    process.wait()  # killed, or at its own end since what it waited for was killed first
    assert is_over(below)
    assert trail(folder, heir.origin).end() == GONE


@pytest.mark.parametrize("where", ["folder", "."])
def test_an_orphan_that_emptied_its_environment_is_known_by_its_folder(
    where: str, heir: Heir, folder: Path
) -> None:
    process = heir.leave(folder=folder / where)
    shutil.rmtree(folder)
    assert trail(folder, heir.origin).end() == Remains(1, is_certain=True)
    assert is_over(process)


@pytest.mark.parametrize(
    "other",
    [{"FORGE_TASK_ID": "8"}, {"FORGE_ATTEMPT": "2"}, {"FORGE_URL": "https://other.example.net"}],
)
def test_what_has_other_marks_is_spared_and_may_be_its(
    other: dict[str, str], heir: Heir, folder: Path
) -> None:
    """Another attempt's, or of a script that has exported another of these."""
    process = heir.leave(marks={**MARKS, **other})
    assert trail(folder, heir.origin).end() == UNSURE
    assert not is_over(process)


def test_what_is_ended_as_another_attempts_at_the_same_time_is_not_its(
    heir: Heir, folder: Path
) -> None:
    process = heir.leave(marks={**MARKS, "FORGE_TASK_ID": "8"})
    own, another = trail(folder, heir.origin), Trail(8, 1, URL, folder / "other", heir.origin)
    own.beside([own, another])
    assert own.end() == GONE and not is_over(process)
    assert another.end() == Remains(1, is_certain=True) and is_over(process)


def test_without_forges_address_it_is_not_known_by_its_number(heir: Heir, folder: Path) -> None:
    """Another Forge on the host may have a task of the same number."""
    process = heir.leave(marks=MARKS)
    task = int(MARKS["FORGE_TASK_ID"])
    assert Trail(task, 1, "", folder, heir.origin).end() == UNSURE
    assert not is_over(process)


def test_all_that_a_user_of_its_own_has_left_is_ended(
    heir: Heir, folder: Path, start: Start
) -> None:
    """Not what others have begun as that user, and wait for; here it is the one of this test."""
    origin, shell = heir.origin, start(SLEEP)
    process = heir.leave()
    assert trail(folder, origin, uid=os.getuid()).end() == Remains(1, is_certain=True)
    assert is_over(process) and shell.poll() is None


# What may be its


def test_an_orphan_without_a_trace_makes_it_uncertain_and_is_spared(
    heir: Heir, folder: Path
) -> None:
    process = heir.leave()
    assert trail(folder, heir.origin).end() == UNSURE
    assert not is_over(process)


def test_so_does_what_is_below_one(heir: Heir, folder: Path) -> None:
    """Such as a shell without a trace, and what it has started in the attempt's folder."""
    script = f"(cd {folder}; echo $BASHPID; exec sleep 1000) & wait"
    process = heir.leave(script)
    assert trail(folder, heir.origin).end() == UNSURE
    assert not is_over(process)


def test_what_ends_by_itself_meanwhile_leaves_no_doubt(heir: Heir, folder: Path) -> None:
    heir.leave("echo $$; exec sleep 0.3")
    assert trail(folder, heir.origin).end() == GONE


# Each ends when it has begun the next one.
HOP = """
hop() {{ sleep 0.5; test $1 -eq 0 || hop $(($1 - 1)) <&- >&- 2>&- & }}
echo $$; hop {times}
"""


def test_what_ends_soon_leaves_no_doubt_however_much_of_it_comes_and_goes(
    heir: Heir, folder: Path
) -> None:
    """For longer than what lasts is waited for."""
    heir.leave(HOP.format(times=7))
    assert trail(folder, heir.origin).end() == GONE


def test_what_begins_another_before_it_ends_is_not_waited_for_without_end(
    heir: Heir, folder: Path
) -> None:
    heir.leave(HOP.format(times=10_000))
    assert trail(folder, heir.origin).end() == UNSURE


def test_what_was_there_before_the_attempt_is_not_suspected(heir: Heir, folder: Path) -> None:
    """Other tasks of the same fork server may have left it."""
    process = heir.leave(folder=folder)
    begun = boot_seconds() + 1
    wait_for(lambda: boot_seconds() > begun, "it is surely older")
    assert trail(folder, heir.origin, begun=begun).end() == GONE
    assert not is_over(process)


def test_the_shell_of_somebody_who_looks_at_the_folder_is_spared_with_all_below_it(
    heir: Heir, folder: Path, start: Start
) -> None:
    """It is a living process's child."""
    origin = heir.origin
    shell = start("sleep 1000 & echo begun; wait", folder / "folder")
    assert trail(folder, origin).end() == GONE
    assert psutil.Process(shell.pid).children()[0].is_running()


def test_where_nobody_knows_who_adopts_orphans_every_new_process_is_suspected(
    heir: Heir, folder: Path, start: Start
) -> None:
    """As after a full disk, or a worker that did not note it."""
    origin = heir.origin._replace(heirs=None)
    shell = start("echo begun; sleep 1000", folder)
    assert trail(folder, origin).end() == UNSURE
    assert shell.poll() is None


def test_when_the_heir_is_dead_what_the_next_one_adopts_is_suspected(
    heir: Heir, folder: Path
) -> None:
    """Such as a user's service manager: the next one in line is this test's own heir here."""
    other = Heir()
    origin = other.origin._replace(heirs=(other.name, heir.name))
    heir.leave()
    assert trail(folder, origin).end() == GONE
    other.end()
    assert trail(folder, origin).end() == UNSURE


def test_the_heir_is_the_one_that_adopts() -> None:
    """Asked below a process that adopts, and above one that does not."""
    script = (
        "import ctypes, os, subprocess, sys; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); "
        "subprocess.run(['bash', '-c', sys.argv[1] + '; true']); print(os.getpid())"
    )
    ask = f"{sys.executable} -c 'from runners.worker.origin import *; print(find_heirs()[0][0])'"
    done = subprocess.run(
        [sys.executable, "-c", script, ask], cwd=ROOT, check=True, capture_output=True, text=True
    )
    found, adopts = done.stdout.split()
    assert found == adopts
    assert find_heirs() is not None


# What cannot be read

HIDDEN = f"""exec {sys.executable} -c '
import ctypes, os, time
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
print(os.getpid(), flush=True)
time.sleep(1000)
'"""
SEARCH = """
import json, sys
from pathlib import Path
from runners.worker.origin import Origin
from runners.worker.remains import Trail
origin = Origin.read(json.loads(sys.argv[2]))
print(Trail(987_654_321, 1, "https://forge.example.net", Path(sys.argv[1]), origin).end())
"""


def _search(folder: Path, origin: Origin) -> str:
    """By a process that may not read all that is on this host, as a runner's user may not."""
    prefix = ["setpriv", "--bounding-set=-all"] if os.geteuid() == 0 else []
    noted = json.dumps(origin.as_json())
    command = [*prefix, sys.executable, "-c", SEARCH, str(folder), noted]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def test_where_an_environment_cannot_be_read_nothing_is_certain(heir: Heir, folder: Path) -> None:
    process = heir.leave(HIDDEN, marks=MARKS)
    assert "is_certain=False" in _search(folder, heir.origin)
    assert not is_over(process)


def test_what_cannot_be_read_and_is_somebodys_child_is_not_suspected(
    heir: Heir, folder: Path, start: Start
) -> None:
    origin = heir.origin
    start(HIDDEN)
    assert "is_certain=True" in _search(folder, origin)
