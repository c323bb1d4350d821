"""A worker is killed, alone or with all that would have ended its tasks, and starts again."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from runners.worker.processes import is_alive
from tests.adoption import adopting
from tests.deployment.attempts import RETRY, STUBBORN, Place, attempt_in
from tests.deployment.client import wait_for
from tests.deployment.deployment import SHORT, Deployment, Worker, processes_with
from tests.frozen import freeze

# In a session of its own it outlives the program, and with it holds the lock.
LEFT = 'trap "" INT TERM HUP; echo up; exec -a {folder}/left.$FORGE_ATTEMPT sleep 600'
SCRIPT = STUBBORN.replace("echo begun", f"setsid bash -c '{LEFT}' &\necho begun")


@pytest.fixture(scope="module", autouse=True)
def heir() -> Iterator[None]:
    with adopting():
        yield


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Here no lease ends: what a worker has to say after its start comes first, however long that
    takes on a busy machine.
    """
    patient = {**SHORT, "FORGE_LEASE_SECONDS": "90"}
    with Deployment(tmp_path_factory.mktemp("forge"), patient) as deployment:
        yield deployment


@pytest.fixture
def place(forge: Deployment, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    yield Place(forge, request.node.name[-60:], tmp_path)
    for process in processes_with(f"{tmp_path}/work/left"):
        process.kill()


def _begin(place: Place, policy: str) -> tuple[Worker, int]:
    worker = place.forge.worker(place.runner("struck"))
    fields: dict[str, Any] = RETRY if policy == "retry" else {"lost_runner_policy": policy}
    task = place.run("work", script=SCRIPT, **fields)
    place.forge.api.await_output(task, b"up")
    return worker, task


def _left(place: Place) -> list[psutil.Process]:
    return processes_with(f"{place.folder}/work/left.1")


def _first_attempt_of(place: Place, task: int, policy: str) -> dict[str, Any]:
    """Once the worker runs again; of a task that may be retried the second one has run, alone."""
    api = place.forge.api
    if policy == "retry":
        wait_for(lambda: attempt_in(place.forge, task, 2, "running"), "the second attempt runs")
        api.await_output(task, b"up")
        assert place.ledger("work") == [f"{task}.1", f"{task}.2"]
        assert not _left(place)
        place.open_gate("work")
        ended = api.wait_until(task)
        assert ended["state"] == "succeeded"
        first: dict[str, Any] = ended["attempts"][0]
    else:
        first = api.wait_until(task)
        assert place.ledger("work") == [f"{task}.1"]
        lock = ["flock", "--nonblock", str(place.folder / "work" / "lock"), "true"]
        assert subprocess.run(lock).returncode == 0, "something of it lives"
    assert first["state"] == "failed"
    return first


def _kill_all(worker: Worker, order: str = "worker first") -> None:
    """The worker, and what would have ended its tasks."""
    itself = psutil.Process(worker.process.pid)
    watchers = []
    for one in itself.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # The task's own come and go.
            if one.name() in ("forge-forkserve", "forge-supervise"):
                watchers.append(one)
    assert len(watchers) == 2
    # Stopped, in this order, none of them can do anything about the end of the others.
    for process in (itself, *watchers):
        freeze(process)
    for process in (itself, *watchers) if order == "worker first" else (*watchers, itself):
        process.kill()
    worker.process.wait()


def test_what_a_killed_worker_had_is_tried_again_when_it_says_so(
    forge: Deployment, place: Place
) -> None:
    worker = forge.worker(place.runner("reborn"))
    task = place.run("work", **RETRY)
    worker.kill()
    worker.start()
    wait_for(lambda: attempt_in(forge, task, 2, "running"), "the second attempt runs")
    place.open_gate("work")
    ended = forge.api.wait_until(task)
    assert ended["state"] == "succeeded"
    first = ended["attempts"][0]
    assert first["state"] == "failed" and "was killed while it ran" in first["reason"]
    assert not first["log_complete"]  # the end of it was on its way when the worker was killed
    assert place.ledger("work") == [f"{task}.1", f"{task}.2"]


@pytest.mark.parametrize("policy", ["wait", "retry"])
@pytest.mark.parametrize("order", ["worker first", "worker last"])
def test_what_nobody_watches_over_is_ended_before_the_worker_says_how_it_ended(
    forge: Deployment, place: Place, order: str, policy: str
) -> None:
    worker, task = _begin(place, policy)
    _kill_all(worker, order)
    assert _left(place)
    worker.start()
    first = _first_attempt_of(place, task, policy)
    assert re.search(
        "the next worker ended [12] process(es)? of it that still ran", first["reason"]
    )
    log = forge.api.send("GET", f"tasks/{task}/log?attempt=1").text
    assert "forge: the next worker ended" in log


@pytest.mark.parametrize("is_emptied", [True, False], ids=["emptied", "gone"])
def test_without_the_notes_of_fork_servers_there_is_no_next_attempt(
    forge: Deployment, place: Place, is_emptied: bool
) -> None:
    """Somebody clears a folder after a crash: that a note is gone does not say that all ended."""
    worker, task = _begin(place, "retry")
    _kill_all(worker)
    for notes in (forge.folder / "journals").glob(f"runner-{worker.runner.id}-*/fork-servers"):
        assert list(notes.iterdir())
        shutil.rmtree(notes)
        if is_emptied:
            notes.mkdir()
    assert _left(place)
    worker.start()
    ended = forge.api.wait_until(task)
    assert (ended["state"], ended["attempt"]) == ("failed", 1)
    assert "nobody can say whether something of it still runs" in ended["reason"]
    assert place.ledger("work") == [f"{task}.1"]


# An ordinary foreground child, which has nothing that Forge gave it.
CHILD = """cd /
{giving} bash -c 'echo $$ > {{folder}}/pid; echo begun; exec sleep 600'; true"""
TRACELESS = 'env -i PATH="$PATH"'


@pytest.mark.parametrize("giving", ['env -i PATH="$PATH"', "FORGE_URL=https://another.example.net"])
def test_where_something_without_a_trace_still_runs_there_is_no_next_attempt(
    giving: str, forge: Deployment, place: Place
) -> None:
    worker = forge.worker(place.runner("struck"))
    task = place.run("work", script=CHILD.format(giving=giving), **RETRY)
    left = psutil.Process(int((place.folder / "work" / "pid").read_text()))
    _kill_all(worker)
    worker.start()
    ended = forge.api.wait_until(task)
    try:
        assert left.is_running()
        assert (ended["state"], ended["attempt"]) == ("failed", 1)
        assert "nobody can say whether something of it still runs" in ended["reason"]
        named = f"Process {left.pid} (sleep) may be left of attempt 1 of task #{task}, whose"
        assert named in worker.said()
    finally:
        left.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give tasks users of their own")
def test_what_a_user_of_a_task_runs_is_all_ended(
    forge: Deployment, place: Place, open_folder: Path
) -> None:
    """Also without a trace, and so it is known that nothing is left."""
    place.folder = open_folder
    worker = forge.worker(
        place.runner("struck"),
        FORGE_RUNNER_TASK_USERS="nobody",
        FORGE_RUNNER_DATA=str(open_folder / "journals"),
    )
    (open_folder / "work").mkdir()
    (open_folder / "work").chmod(0o777)
    script = CHILD.format(giving=TRACELESS).replace(
        "cd /\n", 'cd /\n[ "$FORGE_ATTEMPT" = 1 ] || exit 0\n'
    )
    script = script.format(folder=open_folder / "work")
    task = forge.api.run_script(place.project, script, **RETRY)
    forge.api.await_output(task, b"begun")
    left = psutil.Process(int((open_folder / "work" / "pid").read_text()))
    assert left.username() == "nobody"
    _kill_all(worker)
    assert left.is_running()
    worker.start()
    try:
        ended = forge.api.wait_until(task)
        assert (ended["state"], ended["attempt"]) == ("succeeded", 2)
        assert "the next worker ended 1 process of it" in ended["attempts"][0]["reason"]
        assert not is_alive(left.pid)
    finally:
        worker.end()  # before its folder is deleted
        with suppress(psutil.NoSuchProcess):
            left.kill()


# Starts a program as on another host that was started at another time.
ELSEWHERE = """#!/bin/bash
exec unshare --mount --uts bash -c '
hostname elsewhere
mount --bind {boot} /proc/sys/kernel/random/boot_id
exec {python} "$@"' x "$@"
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to play another host")
def test_what_a_journal_tells_of_another_host_is_not_run_again(
    forge: Deployment, place: Place, tmp_path: Path
) -> None:
    """A volume was moved, or a machine copied, and the program runs on there."""
    worker, task = _begin(place, "retry")
    _kill_all(worker)
    boot, python = tmp_path / "boot_id", tmp_path / "python"
    boot.write_text("11111111-2222-3333-4444-555555555555\n")
    python.write_text(ELSEWHERE.format(boot=boot, python=sys.executable))
    python.chmod(0o755)
    copy = ["cp", "-a", str(forge.folder / "journals"), str(tmp_path / "journals")]
    subprocess.run(copy, check=True)
    forge.worker(worker.runner, python=str(python), FORGE_RUNNER_DATA=str(tmp_path / "journals"))
    ended = forge.api.wait_until(task)
    assert _left(place)
    assert (ended["state"], ended["attempt"]) == ("failed", 1)
    assert "nobody can say whether it still runs there" in ended["reason"]


@pytest.mark.parametrize("policy", ["wait", "retry"])
def test_who_kills_workers_by_name_leaves_those_that_end_their_tasks(
    forge: Deployment, place: Place, policy: str
) -> None:
    """`pkill -9 -f runners.worker`, of this worker's processes alone."""
    worker, task = _begin(place, policy)
    itself = psutil.Process(worker.process.pid)
    hit = []
    for one in (itself, *itself.children(recursive=True)):
        with suppress(psutil.Error):
            if re.search("runners.worker", " ".join(one.cmdline())):
                hit.append(one)
    assert itself in hit
    for victim in hit:
        victim.kill()
    worker.process.wait()
    worker.start()
    first = _first_attempt_of(place, task, policy)
    assert "killed while it ran; its processes were ended with it." in first["reason"]
