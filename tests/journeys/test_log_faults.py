"""Whatever happens to reports on their way, each byte of a log is there, once."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.deployment.client import wait_for
from tests.deployment.deployment import SHORT, Deployment
from tests.deployment.faults import WAYS, spoiling_front

# A log that goes on for a while, in pieces; the wait keeps it from being one report.
SCRIPT = """for round in $(seq 12); do seq 30000; sleep 0.3; done"""
LOG = b"".join(b"%d\n" % number for number in range(1, 30_001)) * 12


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A Forge that waits for silent runners: here it is Forge itself that is away."""
    settings = {**SHORT, "FORGE_OFFLINE_SECONDS": "60", "FORGE_UNREACHABLE_SECONDS": "60"}
    with Deployment(tmp_path_factory.mktemp("forge"), settings) as deployment:
        yield deployment


def assert_whole(forge: Deployment, task: int) -> None:
    ended = forge.api.wait_until(task)
    assert (ended["state"], ended["log_complete"], ended["log_problem"]) == ("succeeded", True, "")
    content = forge.api.log(task)
    assert len(content) == len(LOG) and content == LOG


def test_reports_that_are_refused_cut_or_whose_answers_are_lost(forge: Deployment) -> None:
    port = urlsplit(forge.place["url"]).port
    assert port is not None
    project = forge.api.project("A bad line")
    with spoiling_front(port) as front:
        worker = forge.worker(forge.api.runner(project, "far-1"), FORGE_URL=front.url)
        template = forge.api.template(project, SCRIPT)
        tasks = [forge.api.run(project, template) for _ in range(2)]
        for task in tasks:
            assert_whole(forge, task)
        wait_for(lambda: not list(forge.folder.glob("journals/*/tasks/*")), "all is handed over")
        assert all(front.spoilt[way] for way in WAYS), front.spoilt
        worker.end()
    assert "Traceback" not in worker.said()
    web = (forge.data / "logs" / "web.log").read_text()
    assert "Traceback" not in web, web[-3000:]


def test_a_worker_that_is_killed_in_the_middle_sends_what_its_journal_has(
    forge: Deployment, tmp_path: Path
) -> None:
    """With Forge away, the journal alone has the log; the next worker hands it over."""
    project = forge.api.project("Killed in the middle")
    worker = forge.worker(forge.api.runner(project, "killed-1"))
    done = tmp_path / "done"
    script = f"echo begin; sleep 1; seq 200000; touch {done}; sleep 600"
    task = forge.api.run_script(project, script)
    forge.api.await_output(task, b"begin")
    web = forge.pid("web")
    os.kill(web, signal.SIGSTOP)
    wait_for(done.exists, "it has written all")
    expected = b"begin\n" + b"".join(b"%d\n" % number for number in range(1, 200_001))
    log = next(forge.folder.glob(f"journals/*/tasks/{task}-1/log"))
    wait_for(lambda: log.stat().st_size == len(expected), "the journal has all")
    worker.kill()
    os.kill(web, signal.SIGCONT)
    worker.start()
    ended = forge.api.wait_until(task)
    # The process of the task died with its worker, so Forge says where its words may be missing.
    assert ended["state"] == "failed" and not ended["log_complete"], ended
    assert forge.api.log(task) == expected + (
        b"forge: the runner's worker was killed here; the program's last words may be missing\n"
    )


def test_a_database_that_is_restored_from_a_backup_gets_the_log_again(
    forge: Deployment, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    script = f"seq 50000; while [ ! -e {gate} ]; do sleep 0.05; done; seq 50000"
    half = b"".join(b"%d\n" % number for number in range(1, 50_001))
    task = forge.api.run_script(forge.place["project_id"], "echo early; sleep 2\n" + script)
    forge.api.await_output(task, b"early")
    backup = tmp_path / "backup.sqlite3"
    with_server_held(forge, lambda: copy_database(forge.data, backup))
    forge.api.await_output(task, half)
    with_server_held(forge, lambda: restore_database(forge.data, backup))
    assert forge.api.task(task)["state"] == "running"
    gate.touch()
    ended = forge.api.wait_until(task)
    assert (ended["state"], ended["log_complete"]) == ("succeeded", True), ended
    assert forge.api.log(task) == b"early\n" + half + half


def with_server_held(forge: Deployment, move: Callable[[], None]) -> None:
    """Kill web and controller, which the quick start puts back, and `move` in between."""
    os.kill(forge._process.pid, signal.SIGSTOP)
    pids = {role: forge.pid(role) for role in ("web", "controller")}
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: all(is_dead(pid) for pid in pids.values()), "both are dead")
    move()
    os.kill(forge._process.pid, signal.SIGCONT)
    wait_for(lambda: all(forge.pid(role) != pid for role, pid in pids.items()), "both are back")


def is_dead(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def copy_database(data: Path, backup: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        if (source := data / f"forge.sqlite3{suffix}").exists():
            shutil.copy(source, f"{backup}{suffix}")


def restore_database(data: Path, backup: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        target, source = data / f"forge.sqlite3{suffix}", Path(f"{backup}{suffix}")
        target.unlink(missing_ok=True)
        if source.exists():
            shutil.copy(source, target)
