"""What is found, ended and suspected of an attempt that nobody watches over any more."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil
import pytest

from runners.worker.origin import Origin, find_heirs, may_be_from
from runners.worker.processes import cgroup_of, status_of
from runners.worker.remains import Remains, Trail
from runners.worker.supervision import boot_seconds
from tests.deployment.client import wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and a subreaper")

ROOT = Path(__file__).resolve().parents[2]
GONE = Remains(0, is_certain=True)
UNSURE = Remains(0, is_certain=False)
URL = "https://forge.example.net"
TASK = 987_654_321
MARKS = {"FORGE_TASK_ID": str(TASK), "FORGE_ATTEMPT": "1", "FORGE_URL": URL}
SLEEP = "echo $$; exec sleep 1000"
# As the first process of a container, or a user's service manager, it adopts what is left below
# it; here, that of this test alone. Starts each script so that it has lost its parent, and says
# what the script says first.
HEIR = """
import ctypes, json, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
for line in sys.stdin:
    order = json.loads(line)
    parent = subprocess.Popen(
        ["setsid", "--fork", "bash", "-c", order["script"]],
        cwd=order["folder"], env=order["environment"], stdout=subprocess.PIPE,
    )
    print(parent.stdout.readline().decode().strip(), flush=True)
    parent.wait()
"""


class Heir:
    """Whose children the processes of an attempt are, once all that watched over them is dead."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", HEIR], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self._process.pid
        self.begun = 0.0

    def leave(
        self,
        script: str = SLEEP,
        folder: Path = Path("/"),
        marks: Mapping[str, str] = MappingProxyType({}),
    ) -> psutil.Process:
        """An orphan, or whatever process the script names first."""
        self.begun = self.begun or boot_seconds()
        order: dict[str, Any] = {"script": script, "folder": str(folder)}
        order["environment"] = {"PATH": os.environ["PATH"], **marks}
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return psutil.Process(int(self._process.stdout.readline()))

    @property
    def origin(self) -> Origin:
        return Origin(self.begun or boot_seconds(), cgroup_of(os.getpid()), (self.name,))

    @property
    def name(self) -> tuple[int, int]:
        return self.pid, status_of(self.pid).ticks

    def end(self) -> None:
        for process in psutil.Process(self.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.communicate()


@pytest.fixture
def heir() -> Iterator[Heir]:
    heir = Heir()
    yield heir
    heir.end()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "work" / "7-1"
    (found / "folder").mkdir(parents=True)
    return found


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


def trail(folder: Path, origin: Origin, begun: float = 0.0, uid: int | None = None) -> Trail:
    return Trail(TASK, 1, URL, folder, origin, begun=begun, uid=uid)


def is_over(process: psutil.Process) -> bool:
    """Gone, or dead and not yet collected by whoever has adopted it."""
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    return True


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
def test_other_attempts_are_spared(other: dict[str, str], heir: Heir, folder: Path) -> None:
    process = heir.leave(marks={**MARKS, **other})
    assert trail(folder, heir.origin).end() == GONE
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


def test_what_was_there_before_the_attempt_is_not_suspected(heir: Heir, folder: Path) -> None:
    """Other tasks of the same fork server may have left it."""
    process = heir.leave(folder=folder)
    begun = heir.begun + 1
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


# Control groups


@pytest.mark.parametrize(
    ("origin", "cgroup", "is_suspected"),
    [
        ("/system.slice/runner.service", "/system.slice/runner.service", True),
        ("/system.slice/runner.service", "/system.slice/runner.service/made", True),
        ("/system.slice/runner.service", "/user.slice/user-0.slice/session-4.scope", True),
        ("/system.slice/runner.service", "/system.slice/run-r1.scope", True),
        ("/system.slice/runner.service", "/system.slice/cron.service", False),
        ("/system.slice/runner.service", "/system.slice/runner.service2", False),
        ("/system.slice/runner.service", "/user.slice/user@0.service/init.scope", False),
        ("/user.slice/user-7.slice/session-2.scope", "/system.slice/cron.service", False),
        ("/", "/system.slice/cron.service", False),
        ("/", "/made", True),
        (None, "/system.slice/cron.service", True),
    ],
)
def test_what_a_login_or_a_scope_moved_is_suspected_and_services_are_not(
    origin: str | None, cgroup: str, is_suspected: bool
) -> None:
    lines = "4:memory:/host\n0::{}\n"
    whole = None if origin is None else lines.format(origin)
    assert may_be_from(whole, lines.format(cgroup)) == is_suspected


def _is_empty(file: Path) -> bool:
    return not file.read_text()


@pytest.fixture
def groups() -> Iterator[Callable[[str], Path]]:
    """Makes control groups at the top of a hierarchy, outside of this test's own."""
    made: list[Path] = []
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    places = [mount[1] for mount in mounts if mount[2].startswith("cgroup")]

    def make(name: str) -> Path:
        mine = cgroup_of(os.getpid())
        for place in map(Path, places):
            own = re.search(rf":[^:]*\b{place.name}\b[^:]*:(/.+)$", mine, re.M)
            if own and os.access(place, os.W_OK):
                made.append(place / name)
                made[-1].mkdir()
                return made[-1]
        pytest.skip("no hierarchy of control groups that this test could leave its own of")

    yield make
    for path in made:
        procs = path / "cgroup.procs"
        wait_for(partial(_is_empty, procs), "nothing is in it any more")
        path.rmdir()


@pytest.mark.parametrize(("kind", "expected"), [("scope", UNSURE), ("service", GONE)])
def test_an_orphan_that_was_moved_into_a_scope_is_suspected(
    kind: str, expected: Remains, groups: Callable[[str], Path], heir: Heir, folder: Path
) -> None:
    process = heir.leave()
    name = f"forge-test-{os.getpid()}.{kind}"
    groups(name).joinpath("cgroup.procs").write_text(str(process.pid))
    assert trail(folder, heir.origin).end() == expected
    process.kill()
