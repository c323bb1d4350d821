"""A runner whose host can start nothing: it says so, and leaves what waits to its siblings."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.deployment.client import Runner, wait_for
from tests.deployment.deployment import Deployment, Worker

# Where the kernel lets a group of processes be bounded, by the version of its interface.
GROUPS = (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup"))


@pytest.fixture
def group() -> Iterator[Path]:
    """Processes whose number can be bounded; the bound counts for root too."""
    place = next(filter(None, map(make_group, GROUPS)), None)
    if place is None:
        pytest.skip("no processes can be bounded here")
    yield place
    (place / "pids.max").write_text("max")
    for pid in (place / "cgroup.procs").read_text().split():
        os.kill(int(pid), signal.SIGKILL)
    wait_for(lambda: not (place / "cgroup.procs").read_text(), "all of them have ended")
    place.rmdir()


def make_group(parent: Path) -> Path | None:
    place = parent / f"forge-test-{os.getpid()}"
    try:
        place.mkdir()
    except OSError:
        return None
    if (place / "pids.max").exists():
        return place
    place.rmdir()
    return None


def folder_of(forge: Deployment, runner: Runner) -> Path:
    (found,) = (forge.folder / "journals").glob(f"runner-{runner.id}-*")
    return found


def let_nothing_begin(worker: Worker, group: Path) -> None:
    """No process and no thread more of this worker, its fork server and its supervisors."""
    process = psutil.Process(worker.process.pid)
    for one in (process, *process.children(recursive=True)):
        (group / "cgroup.procs").write_text(str(one.pid))
    (group / "pids.max").write_text("1")


def trouble_of(forge: Deployment, runner: Runner) -> str:
    trouble: str = forge.api.get(f"runners/{runner.id}/")["trouble"]
    return trouble


def test_what_waits_goes_to_the_sibling_of_a_runner_that_has_no_place_for_it(
    forge: Deployment,
) -> None:
    project = forge.api.project("No place")
    good = forge.api.runner(project, "placed-1", concurrency=1)
    bad = forge.api.runner(project, "placeless-1", concurrency=1)
    forge.worker(good)
    worker = forge.worker(bad)
    work = folder_of(forge, bad) / "work"
    # Not even root can make a folder in a file.
    work.rmdir()
    work.touch()
    tasks = [forge.api.run_script(project, "sleep 0.2") for _ in range(12)]
    ended = forge.api.finished(tasks)
    assert {(one["state"], one["runner"]) for one in ended} == {("succeeded", good.id)}
    # That for which the other had popped the hint, too, keeps its place.
    starts = [one["started_at"] for one in ended]
    assert starts == sorted(starts)
    forge.api.await_status(bad.id, "unhealthy")
    said = "No folder for a task can be made: Not a directory"
    assert trouble_of(forge, bad) == said
    assert worker.said().count(f"{said}. No new task is taken until that has passed.") == 1
    work.unlink()
    work.mkdir(mode=0o700)
    forge.api.await_status(bad.id, "idle")
    assert trouble_of(forge, bad) == ""


def test_a_disk_with_room_on_which_no_file_can_be_made_costs_no_task(
    forge: Deployment, small_disk: Path
) -> None:
    few = ["mount", "-o", "remount,nr_inodes=400", str(small_disk)]
    if (made := subprocess.run(few, capture_output=True, text=True)).returncode:
        pytest.skip(f"the number of files cannot be bounded here: {made.stderr}")
    project = forge.api.project("No inodes")
    runner = forge.api.runner(project, "filed-1")
    worker = forge.worker(runner, FORGE_RUNNER_DATA=str(small_disk / "journals"))
    ballast = small_disk / "ballast"
    ballast.mkdir()
    # Enough is left for what the journal says of a claim, and too little for what follows.
    for number in range(os.statvfs(small_disk).f_favail - 5):
        (ballast / str(number)).touch()
    task = forge.api.run_script(project, "true")
    said = "No folder for a task can be made: No space left on device"
    wait_for(lambda: said in forge.api.task(task)["waiting_for"], "the task waits for that")
    for file in ballast.iterdir():
        file.unlink()
    assert forge.api.wait_until(task)["state"] == "succeeded", worker.said()


def test_one_task_at_most_meets_a_host_without_a_process_for_it(
    forge: Deployment, group: Path
) -> None:
    project = forge.api.project("No process")
    runner = forge.api.runner(project, "crowded-1", concurrency=4)
    worker = forge.worker(runner)
    # Its threads and its fork server are there by then.
    assert forge.api.wait_until(forge.api.run_script(project, "true"))["state"] == "succeeded"
    let_nothing_begin(worker, group)
    met = forge.api.wait_until(forge.api.run_script(project, "echo met > /dev/null"))
    why = "Nothing was started, for a reason of the runner's host: no thread for the task"
    assert (met["state"], met["started_at"]) == ("failed", None)
    assert met["reason"].startswith(why), met["reason"]
    forge.api.await_status(runner.id, "unhealthy")
    assert trouble_of(forge, runner).startswith("No task can be started: no thread for the task")
    # The first of them it may have popped in the moment in which it left the queue.
    tasks = [forge.api.run_script(project, "true") for _ in range(3)]
    wait_for(
        lambda: all(
            "No task can be started" in forge.api.task(one)["waiting_for"] for one in tasks
        ),
        "none of them is tried there",
    )
    (group / "pids.max").write_text("max")
    assert {one["state"] for one in forge.api.finished(tasks)} == {"succeeded"}
    forge.api.await_status(runner.id, "idle")
    assert worker.process.poll() is None and "Traceback" not in worker.said(), worker.said()


def test_a_worker_without_a_thread_for_its_first_task_goes_on(
    forge: Deployment, group: Path
) -> None:
    project = forge.api.project("No thread")
    runner = forge.api.runner(project, "threadless-1")
    worker = forge.worker(runner)
    let_nothing_begin(worker, group)
    task = forge.api.run_script(project, "true")
    said = "No task can be started: no thread for the task"
    wait_for(lambda: said in forge.api.task(task)["waiting_for"], "the task waits for a thread")
    (group / "pids.max").write_text("max")
    assert forge.api.wait_until(task)["state"] == "succeeded", worker.said()
    assert worker.process.poll() is None
    let_nothing_begin(worker, group)
    worker.process.terminate()
    assert worker.process.wait(60) == 0 and "Traceback" not in worker.said(), worker.said()
    assert "Forge is not told of the shutdown: can't start new thread." in worker.said()


def test_a_worker_that_cannot_begin_says_so_in_a_line(forge: Deployment, group: Path) -> None:
    project = forge.api.project("No start")
    worker = forge.worker(forge.api.runner(project, "beginner-1"))
    worker.end()
    enter = 'echo $$ > "$0" && exec "$@"'
    command = ["sh", "-c", enter, str(group / "cgroup.procs"), *worker._command]
    (group / "pids.max").write_text("6")
    environment, log = worker._environment, subprocess.PIPE
    ended = subprocess.run(command, cwd=worker.cwd, env=environment, stderr=log, timeout=60)
    said = ended.stderr.decode().splitlines()
    assert (ended.returncode, len(said)) == (1, 1), said
    assert said[0].startswith("forge: This host gives the worker too few threads"), said
    (group / "pids.max").write_text("max")
    worker.start()
    forge.api.await_status(worker.runner.id, "idle")
