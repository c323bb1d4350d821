"""What a worker says, and ends, of the tasks of one before it that was killed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from runners.worker import predecessor as predecessor_module
from runners.worker.entry import Entry
from runners.worker.leftovers import close_leftover
from runners.worker.origin import Origin
from runners.worker.predecessor import End, Predecessor
from runners.worker.remains import Remains
from runners.worker.supervision import ForkServer, SupervisionError
from tests.deployment.client import wait_for
from tests.frozen import freeze

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and a subreaper")

ROOT = Path(__file__).resolve().parents[2]
GONE = Remains(0, is_certain=True)
UNSURE = Remains(0, is_certain=False)


def log_of(entry: Entry) -> bytes:
    return entry.read(0, entry.length)


def is_over(process: psutil.Process) -> bool:
    """Gone, or dead and not yet collected by whoever has adopted it."""
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    return True


# What is said of an attempt


def test_what_a_killed_worker_left_says_whether_anything_ran(entry: Entry) -> None:
    close_leftover(entry, end=End.PENDING)
    assert entry.result is not None
    assert "nothing was run" in entry.result["reason"] and entry.result["is_cut_short"]
    assert log_of(entry) == b""


def test_what_has_ended_in_a_way_that_nobody_can_read_is_not_run_again(entry: Entry) -> None:
    entry.note_start()
    (entry.folder / "result.json").write_text("damaged")
    entry.recover()
    close_leftover(entry, end=End.ORDERLY)
    assert entry.result is not None and not entry.result["is_cut_short"]
    assert entry.result["reason"].endswith("cannot be read; nobody can say how it ended.")


def test_without_the_note_of_its_claim_nobody_says_that_the_host_was_restarted(
    entry: Entry,
) -> None:
    (entry.folder / "claim.json").write_text("")
    entry.recover()
    close_leftover(entry, end=End.ORDERLY)
    assert entry.result is not None and not entry.result["is_cut_short"]
    assert entry.result["reason"] == (
        "The runner's worker was killed; nobody can say whether the program had been started."
    )


@pytest.mark.parametrize("end", list(End))
def test_of_what_a_host_left_that_was_restarted_nobody_says_that_nothing_ran(
    end: End, entry: Entry
) -> None:
    """The note of the start need not have reached the disk."""
    entry.boot = "another start of this host"
    close_leftover(entry, end=end)
    assert entry.result is not None
    assert "whether the program had been started" in entry.result["reason"]
    assert entry.result["is_cut_short"] and entry.result["log_problem"]


@pytest.mark.parametrize("end", list(End))
@pytest.mark.parametrize("has_started", [True, False])
def test_of_what_another_host_left_nobody_says_that_it_ended(
    end: End, has_started: bool, entry: Entry
) -> None:
    """A volume was moved, or a machine copied: there the program may run, or be started yet."""
    entry.boot, entry.host = "a start of that host", "another host"
    if has_started:
        entry.note_start()
    close_leftover(entry, end=end)
    assert entry.result is not None
    assert "nobody can say whether it still runs there" in entry.result["reason"]
    assert not entry.result["is_cut_short"] and entry.result["log_problem"]


def test_the_journal_of_a_worker_that_did_not_note_its_host_is_read(entry: Entry) -> None:
    claim = entry.folder / "claim.json"
    noted = json.loads(claim.read_text())
    assert noted.pop("host")
    claim.write_text(json.dumps({**noted, "boot": "another start of this host"}))
    entry.note_start()
    entry.recover()
    close_leftover(entry, end=End.KILLED)
    assert entry.result is not None and entry.result["is_cut_short"]
    assert "The runner's host was restarted while it ran" in entry.result["reason"]


@pytest.mark.parametrize(
    ("end", "remains", "is_cut_short", "said"),
    [
        (End.ORDERLY, None, True, "its processes were ended with it."),
        (End.PENDING, None, False, "not all of its processes would end."),
        (End.KILLED, None, False, "nobody can say whether something of it still runs."),
        (End.KILLED, UNSURE, False, "nobody can say whether something of it still runs."),
        (End.KILLED, GONE, True, "the next worker found none of its processes left."),
        (
            End.KILLED,
            Remains(1, is_certain=True),
            True,
            "the next worker ended 1 process of it that still ran.",
        ),
        (
            End.KILLED,
            Remains(2, is_certain=False),
            False,
            "the next worker ended 2 processes of it, but nobody can say whether something of it "
            "still runs.",
        ),
        (
            End.KILLED,
            Remains(2, is_certain=False, is_alive=True),
            False,
            "not all of its processes would end.",
        ),
    ],
)
def test_only_what_is_surely_gone_counts_as_cut_short(
    end: End, remains: Remains | None, is_cut_short: bool, said: str, entry: Entry
) -> None:
    entry.append(b"half a li")
    entry.note_start()
    close_leftover(entry, end=end, remains=remains)
    assert entry.result is not None
    assert entry.result["is_cut_short"] == is_cut_short
    assert entry.result["reason"] == f"The runner's worker was killed while it ran; {said}"
    log = log_of(entry).decode()
    assert log.startswith("half a li\nforge: the runner's worker was killed here")
    assert (said[:-1] in log) == (end is not End.ORDERLY)


# The fork servers of the worker before

# Starts `sleep` once for each line of its input and prints the pid; KILLs itself at its end.
WORKER = """
import os, sys
from pathlib import Path
from runners.worker.predecessor import Predecessor
from runners.worker.supervision import ForkServer
server = ForkServer(Predecessor(Path(sys.argv[1])).note, adopts_orphans=True)
for line in sys.stdin:
    process = server.spawn(["sleep", "1000"], environment={**os.environ}, directory=Path("/"))
    print(process.pid, flush=True)
os.kill(os.getpid(), 9)
"""


class KilledWorker:
    def __init__(self, notes: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(notes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self._started: list[psutil.Process] = []

    def start(self) -> tuple[psutil.Process, psutil.Process, psutil.Process]:
        """Fork server, supervisor and program of a new task."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(file=self._process.stdin, flush=True)
        program = psutil.Process(int(self._process.stdout.readline()))
        supervisor = program.parent()
        assert supervisor is not None
        server = supervisor.parent()
        assert server is not None
        self._started += [server, supervisor, program]
        return server, supervisor, program

    def kill(self) -> None:
        self._process.communicate()

    def clear_away(self) -> None:
        """What a test that failed has left, such as a supervisor that nobody continues."""
        self._process.kill()
        self._process.wait()
        for one in self._started:
            with suppress(psutil.NoSuchProcess):
                one.kill()


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "fork-servers"


@pytest.fixture
def worker(notes: Path) -> Iterator[KilledWorker]:
    worker = KilledWorker(notes)
    yield worker
    worker.clear_away()


@needs_linux
def test_a_worker_waits_for_the_last_process_of_the_one_before(
    worker: KilledWorker, notes: Path
) -> None:
    _, _, program = worker.start()
    worker.kill()
    assert Predecessor(notes).await_end() is End.ORDERLY
    assert is_over(program)
    found = Predecessor(notes)
    assert found.await_end() is End.ORDERLY
    found.forget()
    assert list(notes.iterdir()) == []


@needs_linux
@pytest.mark.parametrize("is_emptied", [True, False], ids=["emptied", "gone"])
def test_where_the_notes_are_missing_nobody_says_that_the_processes_ended(
    is_emptied: bool, worker: KilledWorker, notes: Path
) -> None:
    server, supervisor, _ = worker.start()
    for process in (server, supervisor):
        freeze(process)
    worker.kill()
    server.kill()
    supervisor.kill()
    shutil.rmtree(notes)
    if is_emptied:
        notes.mkdir()
    assert Predecessor(notes).await_end() is End.KILLED


@needs_linux
def test_a_note_that_is_deleted_before_its_server_ends_says_nothing(
    worker: KilledWorker, notes: Path
) -> None:
    server, _, _ = worker.start()
    for note in notes.iterdir():
        note.unlink()
    worker.kill()
    wait_for(lambda: is_over(server), "the fork server has ended")
    assert Predecessor(notes).await_end() is End.KILLED


@needs_linux
def test_a_fork_server_that_was_killed_has_not_ended_in_order(
    worker: KilledWorker, notes: Path
) -> None:
    server, supervisor, _ = worker.start()
    for process in (server, supervisor):
        freeze(process)
    worker.kill()
    server.kill()
    supervisor.kill()
    found = Predecessor(notes)
    assert found.await_end() is End.KILLED
    # Until somebody has dealt with it, every later worker finds the same.
    assert Predecessor(notes).await_end() is End.KILLED
    found.forget()
    assert list(notes.iterdir()) == []


@needs_linux
def test_of_several_fork_servers_none_is_forgotten(worker: KilledWorker, notes: Path) -> None:
    """The first one was killed, and its task went on; the second one ended in order."""
    server, supervisor, program = worker.start()
    server.kill()
    second, _, other = worker.start()
    assert second != server
    freeze(supervisor)  # it does not see its worker die, and has no server to wake it
    worker.kill()
    assert Predecessor(notes).await_end() is End.KILLED
    assert is_over(program) and is_over(other)
    # Its lock is free a moment before it is dead.
    wait_for(lambda: is_over(supervisor), "the supervisor is gone")


def test_a_fork_server_that_lives_is_waited_for(
    notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predecessor_module, "PATIENCE_SECONDS", 0.2)
    server = ForkServer(Predecessor(notes).note)
    server.start()
    assert Predecessor(notes).await_end() is End.PENDING
    server.close()
    assert Predecessor(notes).await_end() is End.ORDERLY


def test_a_fork_server_that_cannot_be_noted_is_not_started(tmp_path: Path) -> None:
    """Whoever comes after would take it for one that had ended."""
    blocked = tmp_path / "fork-servers"
    blocked.touch()
    server = ForkServer(Predecessor(blocked).note)
    with pytest.raises(SupervisionError, match="cannot start"):
        server.start()
    blocked.unlink()
    server.start()
    server.close()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda note: os.mkfifo(note),
        lambda note: (note / "something").mkdir(parents=True),
        lambda note: note.symlink_to("nowhere"),
        lambda note: note.write_bytes(b"\xff{"),
        lambda note: note.write_text('{"begun": NaN, "cgroup": 7, "heirs": [1]}'),
        lambda note: note.write_text('{"begun": 1e12}'),
    ],
    ids=["fifo", "folder", "link", "garbage", "not a time", "a time to come"],
)
def test_a_note_that_tells_nothing_counts_as_killed_and_is_deleted(
    spoil: Callable[[Path], None], notes: Path
) -> None:
    """Everything is suspected then, whenever it was begun."""
    notes.mkdir()
    spoil(notes / "note")
    found = Predecessor(notes)
    assert found.await_end() is End.KILLED
    assert found.origin == Origin(0.0, None, None)
    found.forget()
    assert list(notes.iterdir()) == []


@needs_linux
def test_the_processes_that_outlive_a_worker_are_not_called_after_it(
    worker: KilledWorker, notes: Path
) -> None:
    """Whoever kills workers by `pkill -f runners.worker` leaves those that end their tasks."""
    server, supervisor, _ = worker.start()
    for process in (server, supervisor):
        line = " ".join(process.cmdline())
        assert "runners" not in line and "worker" not in line and "celery" not in line
    worker.kill()
    assert Predecessor(notes).await_end() is End.ORDERLY
