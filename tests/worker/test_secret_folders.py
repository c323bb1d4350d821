"""Secret files go with the last process of their task, whoever is killed before; task users."""

from __future__ import annotations

import errno
import inspect
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from runners.worker.agent import Agent
from runners.worker.claiming import Claims
from runners.worker.client import Client
from runners.worker.configuration import Configuration
from runners.worker.contact import Contact
from runners.worker.errors import ConfigurationError
from runners.worker.host_watch import HostWatch
from runners.worker.journal import Journal
from runners.worker.protocol import ClaimRequest, Job, SecretFile
from runners.worker.supervision import ForkServer, SupervisionError
from runners.worker.supervision.server import removal
from runners.worker.supervision.server.removal import remove_folder
from runners.worker.task_users import TaskUser, TaskUsers, require_passage, task_users
from runners.worker.tokens import TokenSource
from runners.worker.workplace import Workplace, Workplaces
from tests.deployment.client import wait_for
from tests.worker.test_supervision import (
    ENVIRONMENT,
    FORCE,
    ROOT,
    end_of,
    finish,
    parent_of,
    read_line,
    read_rest,
    server,
)

__all__ = ["server"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs a subreaper")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
KILL = signal.SIGKILL
PUBLIC_PYTHON = shutil.which("python3", path="/usr/bin:/usr/local/bin") or ""
USERS = "nobody,daemon"
ALICE = TaskUser("alice", 2001, 2001, "/home/alice", ())
BOB = TaskUser("bob", 2002, 2002, "/home/bob", ())
WORKER = """
import sys; sys.path.insert(0, sys.argv[1])
from pathlib import Path
from runners.worker.supervision import ForkServer
process = ForkServer().spawn(
    ["bash", "-c", "echo $$; exec sleep 1000"],
    environment={"PATH": sys.argv[2]}, directory=Path("/"), private=Path(sys.argv[3]),
)
print(open(process.output).readline(), end="", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def private(tmp_path: Path) -> Path:
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    (folder / "1").write_text("secret")
    return folder


def spawn(server: ForkServer, script: str, private: Path) -> object:
    return server.spawn(
        ["bash", "-c", script], environment=ENVIRONMENT, directory=private.parent, private=private
    )


@pytest.mark.parametrize("script", ["exit 0", "exit 3", "kill -9 $$"])
def test_the_folder_is_there_for_the_program_and_gone_when_its_end_is_told(
    script: str, server: ForkServer, private: Path
) -> None:
    process = spawn(server, f"cat {private}/1; {script}", private)
    output, _ = finish(process)  # type: ignore[arg-type]
    assert output == "secret" and not private.exists()


def test_the_folder_stays_while_a_process_is_left(server: ForkServer, private: Path) -> None:
    script = f"trap 'cat {private}/1; exit' TERM; (sleep 1000 & wait) & echo up; wait"
    process = spawn(server, script, private)
    assert read_line(process) == "up"  # type: ignore[arg-type]
    assert private.exists()
    process.stop(FORCE)  # type: ignore[attr-defined]
    end_of(process)  # type: ignore[arg-type]
    assert not private.exists()


def test_it_goes_when_the_program_cannot_be_started(server: ForkServer, private: Path) -> None:
    with pytest.raises(SupervisionError):
        server.spawn(
            ["/no/such"], environment=ENVIRONMENT, directory=private.parent, private=private
        )
    assert not private.exists()


def test_it_goes_when_the_supervisor_is_killed(server: ForkServer, private: Path) -> None:
    process = spawn(server, "echo up; exec sleep 1000", private)
    assert read_line(process) == "up"  # type: ignore[arg-type]
    os.kill(parent_of(process.pid), KILL)  # type: ignore[attr-defined]
    assert read_rest(process) == ""  # type: ignore[arg-type]
    with pytest.raises(SupervisionError):
        process.wait()  # type: ignore[attr-defined]
    assert not private.exists()


@pytest.mark.parametrize("with_server", [False, True], ids=["alone", "with the fork server"])
def test_it_goes_when_the_worker_is_killed(with_server: bool, private: Path) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(ROOT), ENVIRONMENT["PATH"], str(private)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout is not None
    program = int(worker.stdout.readline())
    supervisor = parent_of(program)
    if with_server:
        os.kill(parent_of(supervisor), KILL)
    assert private.exists()
    worker.kill()
    worker.communicate()
    wait_for(lambda: not private.exists(), "the folder is gone")


def nest(folder: Path, depth: int) -> None:
    """Make a folder in a folder in a folder, deeper than any path can name."""
    deep = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=deep)
        inner = os.open("d", os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = inner
    os.close(deep)


def test_a_folder_full_of_malice_is_removed_and_nothing_beside_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(outside)
    (folder / "dangling").symlink_to("/no/such")
    (folder / b"\xff\n.txt".decode(errors="surrogateescape")).write_text("x")
    os.mkfifo(folder / "pipe")
    deep = os.open(folder, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=deep)
        os.symlink(outside, "hop", dir_fd=deep)
        inner = os.open("d", os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = inner
    os.close(deep)
    (folder / "closed").mkdir(mode=0o000)
    folder.chmod(0o000)
    remove_folder(os.fsencode(folder))
    assert not folder.exists() and (outside / "kept").read_text() == "kept"
    remove_folder(os.fsencode(folder))
    remove_folder(b"")


def test_a_link_in_place_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    link = tmp_path / "link"
    link.symlink_to(outside)
    remove_folder(os.fsencode(link))
    assert (outside / "kept").exists()


@as_root
@pytest.mark.skipif(not PUBLIC_PYTHON, reason="needs a python3 that every user may run")
def test_what_does_not_give_way_keeps_nothing_else_there() -> None:
    """Of another user's folder only that user can remove what is in it."""
    nobody = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        place.chmod(0o711)
        folder = place / "folder"
        for inner in ("a/b", "anothers/c", "read-only/d/e", "z"):
            (folder / inner).mkdir(parents=True)
            (folder / inner / "file").touch()
        for path in (folder, *folder.rglob("*")):
            if "anothers" not in path.parts:
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        for inner in ("read-only/d/e", "read-only/d", "read-only"):
            (folder / inner).chmod(0o500)
        code = f"{inspect.getsource(removal)}\nremove_folder({os.fsencode(folder)!r})"
        subprocess.run([PUBLIC_PYTHON, "-c", code], user="nobody", group=nobody.pw_gid, check=True)
        assert [path.name for path in folder.rglob("*")] == ["anothers", "c", "file"]


# --- where secret files lie ---


def workplaces(tmp_path: Path, **environment: str) -> Workplaces:
    folder = tmp_path / "runner-0123"
    folder.mkdir(exist_ok=True)
    return Workplaces(folder, environment, is_shared=False)


def test_secret_files_are_in_memory_and_only_this_users(tmp_path: Path) -> None:
    places = workplaces(tmp_path)
    places.clear()
    place = places.of(7, 1, None)
    place.make()
    paths = place.write_secrets([SecretFile("A_FILE", "one\n"), SecretFile("../B", "two")])
    found = {name: Path(path) for name, path in paths.items()}
    assert found["A_FILE"].read_text() == "one\n" and found["../B"].read_text() == "two"
    assert {path.stat().st_mode & 0o777 for path in found.values()} == {0o600}
    assert place.secrets.stat().st_mode & 0o777 == 0o700
    assert str(place.secrets).startswith("/dev/shm/")
    place.remove()
    assert not place.secrets.exists() and not place.place.exists()
    places.close()
    assert not place.secrets.parent.exists()


def test_what_an_earlier_worker_left_is_removed_at_the_start(tmp_path: Path) -> None:
    first = workplaces(tmp_path)
    first.clear()
    place = first.of(7, 1, None)
    place.make()
    place.write_secrets([SecretFile("A", "one")])
    later = workplaces(tmp_path)
    later.clear()
    assert not place.secrets.exists() and not place.place.exists()
    later.close()


@pytest.mark.parametrize("by", ["the end of its task", "the next start"])
def test_a_folder_in_a_folder_a_thousand_times_over_is_removed_like_any_other(
    by: str, tmp_path: Path
) -> None:
    places = workplaces(tmp_path)
    places.clear()
    place = places.of(7, 1, None)
    place.make()
    place.write_secrets([SecretFile("A", "one")])
    for folder in (place.folder, place.secrets):
        nest(folder, 1500)
    later = workplaces(tmp_path) if by == "the next start" else places
    if by == "the next start":
        later.clear()
    else:
        place.remove()
    assert not place.secrets.exists() and not place.place.exists()
    later.clearance.start()
    gone = tmp_path / "runner-0123" / "gone"
    wait_for(lambda: not os.listdir(gone), "all of it is deleted")
    later.clearance.close(is_calm=True)
    places.close()


def test_a_folder_that_is_a_link_or_anothers_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, elsewhere = tmp_path / "shm", tmp_path / "elsewhere"
    shared.mkdir()
    elsewhere.mkdir()
    monkeypatch.setattr("runners.worker.workplace._SHARED_MEMORY", str(shared))
    monkeypatch.setattr("runners.worker.workplace._is_in_memory", lambda place: True)
    places = workplaces(tmp_path)
    own = places.of(7, 1, None).secrets.parent
    assert own.parent == shared
    own.rmdir()
    own.symlink_to(elsewhere)
    (shared / f"forge-{os.geteuid()}-runner-0123").symlink_to(elsewhere)
    (elsewhere / "kept").touch()
    places.clear()
    places.clear_others()
    place = places.of(7, 1, None)
    assert place.secrets.parent == tmp_path / "runner-0123" / "secrets"
    assert list(elsewhere.iterdir()) == [elsewhere / "kept"]


def test_two_workers_of_a_runner_have_their_own_places_until_one_is_known_to_be_the_runners(
    tmp_path: Path,
) -> None:
    """As in two containers that share memory, user, and the path of their data."""
    folder = tmp_path / "runner-89ab"
    folder.mkdir()
    one, two = (Workplaces(folder, {}, is_shared=False, instance=text) for text in ("one", "two"))
    moved = Workplaces(tmp_path / "moved" / folder.name, {}, is_shared=False, instance="two")
    held = one.of(7, 1, None)
    held.write_secrets([SecretFile("A", "one")])
    earlier = held.secrets.parent.with_name(f"forge-{os.geteuid()}-{folder.name}")
    another = earlier.with_name(f"{earlier.name}0")
    for left in (earlier, another):
        left.mkdir(mode=0o700)
    two.clear()
    moved.of(8, 1, None)
    for ending in (two, moved):
        ending.close()
    assert (held.secrets / "1").read_text() == "one" and earlier.exists()
    two.clear_others()
    assert not held.secrets.parent.exists() and not earlier.exists() and another.exists()
    another.rmdir()


def test_a_disk_is_not_taken_for_memory(tmp_path: Path) -> None:
    """tmp_path stands for a runtime folder that is no tmpfs, if it is none."""
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", tmp_path], capture_output=True, text=True
    ).stdout.strip()
    place = workplaces(tmp_path, XDG_RUNTIME_DIR=str(tmp_path)).of(7, 1, None)
    expected = str(tmp_path) if kind == "tmpfs" else "/dev/shm"
    assert str(place.secrets).startswith(expected)
    place.secrets.parent.rmdir()


# --- a Unix user for each task ---


@as_root
def test_a_program_runs_as_the_user_and_with_nothing_of_roots(
    server: ForkServer, tmp_path: Path
) -> None:
    user = task_users("nobody")[0]
    entry = pwd.getpwnam("nobody")
    process = server.spawn(
        ["bash", "-c", "id -u; id -g; id -G; kill -9 $PPID 2>/dev/null || echo refused"],
        environment=ENVIRONMENT,
        directory=Path("/"),
        user=user.as_json(),
    )
    output, ending = finish(process)
    groups = " ".join(map(str, os.getgrouplist("nobody", entry.pw_gid)))
    assert output.splitlines() == [str(entry.pw_uid), str(entry.pw_gid), groups, "refused"]
    assert ending.exit_code == 0


@as_root
@pytest.mark.parametrize("how", ["stop", "supervisor", "close"])
def test_a_users_processes_are_ended_like_ones_own(
    how: str, server: ForkServer, private: Path
) -> None:
    private.chmod(0o700)
    user = task_users("nobody")[0]
    os.chown(private, user.uid, user.gid)
    script = "trap '' TERM INT; (setsid sleep 1000 &); echo up; while :; do sleep 1; done"
    process = server.spawn(
        ["bash", "-c", script],
        environment=ENVIRONMENT,
        directory=Path("/"),
        private=private,
        user=user.as_json(),
    )
    assert read_line(process) == "up"
    if how == "stop":
        process.stop(FORCE)
        assert end_of(process).signal == KILL
    elif how == "supervisor":
        os.kill(parent_of(process.pid), KILL)
        with pytest.raises(SupervisionError):
            process.wait()
    else:
        server.close()
    os.close(process.output)
    assert not private.exists()


@as_root
@pytest.mark.skipif(not PUBLIC_PYTHON, reason="needs a python3 that every user may run")
def test_the_program_of_a_user_dies_with_its_supervisor_at_once(server: ForkServer) -> None:
    """The kernel forgets the parent-death signal when the user changes; it is set afterwards."""
    process = server.spawn(
        ["grep", "-E", "^(SigQ|Uid)", "/proc/self/status"],
        environment=ENVIRONMENT,
        directory=Path("/"),
        user=task_users("nobody")[0].as_json(),
    )
    assert "Uid:\t65534\t65534\t65534\t65534" in finish(process)[0]
    code = (
        "import ctypes; n = ctypes.c_int(); "
        "ctypes.CDLL(None).prctl(2, ctypes.byref(n), 0, 0, 0); print(n.value)"
    )
    process = server.spawn(
        [PUBLIC_PYTHON, "-c", code],
        environment={},
        directory=Path("/"),
        user=task_users("nobody")[0].as_json(),
    )
    assert finish(process)[0].strip() == "9"


@as_root
def test_everything_of_a_workplace_belongs_to_the_user(tmp_path: Path) -> None:
    folder = tmp_path / "runner-4567"
    folder.mkdir()
    places = Workplaces(folder, {"XDG_RUNTIME_DIR": "/run"}, is_shared=True)
    places.clear()
    user = task_users("nobody")[0]
    place = places.of(7, 1, user)
    place.make()
    script = place.write_script("script.sh", "true\n")
    path = Path(place.write_secrets([SecretFile("A", "one")])["A"])
    for found in (place.place, place.folder, script, place.secrets, path):
        assert found.stat().st_uid == user.uid
        assert found.stat().st_mode & 0o077 == 0
    assert place.secrets.parent.stat().st_mode & 0o777 == 0o711
    assert not str(place.secrets).startswith("/run/")
    places.close()


@as_root
@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ("no-such-user", "this host has no user 'no-such-user'"),
        ("nobody,no-such-user", "no-such-user"),
        ("root", "root, which can read everything"),
        ("nobody,nobody", "one user twice"),
    ],
)
def test_unusable_task_users_get_a_sentence(names: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        task_users(names)


def test_task_users_need_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ConfigurationError, match="does not run as root"):
        task_users("nobody")
    assert task_users("") == () and task_users(" , ") == ()


@as_root
def test_with_task_users_the_data_is_where_they_can_reach_it() -> None:
    given = {
        "FORGE_URL": "https://forge.example.net",
        "FORGE_RUNNER_TOKEN": "fgr_" + "x" * 43,
        "FORGE_RUNNER_TASK_USERS": USERS,
    }
    found = Configuration.from_environment(given)
    assert [user.name for user in found.task_users] == ["nobody", "daemon"]
    assert str(found.data) == "/var/lib/forge-runner"


def test_a_folder_that_others_cannot_pass_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(ConfigurationError, match=f"may not pass through {closed}"):
        require_passage(closed / "runner" / "work")


def test_each_user_is_lent_to_one_task_at_a_time() -> None:
    users = TaskUsers((ALICE, BOB))
    with users.lent() as first, users.lent() as second:
        assert {first, second} == {ALICE, BOB}
    with users.lent() as again:
        assert again == BOB


def test_without_task_users_there_is_none_to_lend() -> None:
    with TaskUsers(()).lent() as user:
        assert user is None


class FullDisk(Workplaces):
    def of(self, *given: object, **more: object) -> Workplace:
        raise OSError(errno.ENOSPC, "No space left on device")


class GrantsAll(Client):
    def claim(self, request: ClaimRequest) -> Job:
        return Job(request.task, request.attempt, "bash", "true", {}, 60.0, "Payments", "Deploy")


def test_an_attempt_that_fails_before_it_has_a_place_gives_its_user_back(tmp_path: Path) -> None:
    """As often as it may: the worker would have nobody left to run its next tasks as."""
    token = TokenSource("fgr_" + "a" * 43)
    agent = Agent(Configuration("http://127.0.0.1:9", token, tmp_path, task_users=(ALICE,)))
    agent.claims = Claims(
        GrantsAll(agent.configuration),
        session="s" * 16,
        is_draining=threading.Event(),
        is_leaving=threading.Event(),
    )
    agent.runs.slots = 2
    agent.workplaces = FullDisk(tmp_path, {}, is_shared=True)
    agent.journal = Journal(tmp_path)
    agent.journal.open()
    agent.watch = HostWatch({}, changed=lambda: None)
    agent.contact = Contact(
        agent.client,
        agent.journal,
        agent.session,
        refused=lambda entry: None,
        revoked=lambda error: None,
    )
    for task in (7, 8):
        with pytest.raises(OSError, match="No space left"):
            agent.run(task, 1)
    with agent.users.lent() as user:
        assert user == ALICE
    agent.journal.close()


# --- without task users ---

PROBE = """
import os, subprocess, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from runners.worker.supervision import ForkServer, StopStep, hide_memory
hide_memory()
server = ForkServer()
script = '''
for pid in {worker} $PPID $(ps -o ppid= -p $PPID); do
  cat /proc/$pid/environ >/dev/null 2>&1 && echo "read environ of $pid"
  head -c 1 /proc/$pid/mem >/dev/null 2>&1; cat /proc/$pid/maps >/dev/null 2>&1 && echo "maps $pid"
done; echo done; sleep 1000 & wait
'''.replace("{worker}", str(os.getpid()))
process = server.spawn(["bash", "-c", script], environment=dict(PATH=sys.argv[2]),
                       directory=Path("/"))
output = open(process.output)
print(output.readline(), end="")
process.stop([StopStep(15, 60)])
print(process.wait().leftovers, output.read(), end="")
print(subprocess.run(["true"], close_fds=True).returncode)
server.close()
"""


@as_root
@pytest.mark.skipif(not PUBLIC_PYTHON, reason="needs a python3 that every user may run")
def test_a_task_of_the_same_user_cannot_read_the_workers_memory() -> None:
    """As an ordinary user: root reads everything, whatever a process asks for."""
    answer = subprocess.run(
        [PUBLIC_PYTHON, "-c", PROBE, str(ROOT), "/usr/bin:/bin"],
        capture_output=True,
        text=True,
        user="nobody",
        group="nogroup",
        extra_groups=[],
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "FORGE_RUNNER_TOKEN": "canary"},
        timeout=60,
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines() == ["done", "0 0"], answer.stderr
