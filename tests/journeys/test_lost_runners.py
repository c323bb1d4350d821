"""Runners that are cut off, suspended or killed while a task is with them, by every policy."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.chaos.conductor import Conductor
from tests.deployment.attempts import RETRY, STUBBORN, Place, attempt_in, of_attempt
from tests.deployment.client import Runner, wait_for
from tests.deployment.deployment import SHORT, Deployment, Worker, processes_with
from tests.deployment.silence import Wire


@pytest.fixture
def wire(forge: Deployment) -> Iterator[Wire]:
    found = Wire(int(forge.place["url"].rsplit(":", 1)[1]))
    yield found
    found.mend()
    found.close()


@pytest.fixture
def place(forge: Deployment, request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(forge, request.node.name[-60:], tmp_path)


def test_a_partition_does_to_each_task_what_its_template_says(
    forge: Deployment, place: Place, wire: Wire
) -> None:
    far = forge.worker(place.runner("far"), FORGE_URL=wire.url)
    waits = place.run("waits")
    gives_up = place.run("gives-up", lost_runner_policy="fail")
    tries_again = place.run("tries-again", **RETRY)
    near = place.runner("near")
    wire.cut()
    ended = forge.api.wait_until(gives_up, "lost")
    assert ended["state"] == "lost" and "give up at once" in ended["reason"]
    assert forge.api.wait_until(waits, "unreachable")["wait_ends_at"]
    forge.worker(near)
    again = wait_for(
        lambda: attempt_in(forge, tries_again, 2, "running"), "the second attempt runs"
    )
    # The first one is gone, although the worker that had it could not be told.
    starts = [f"{tries_again}.1", f"{tries_again}.2"]
    wait_for(lambda: place.ledger("tries-again") == starts, "both have said so themselves")
    assert [one["runner"] for one in again["attempts"]] == [far.runner.id, near.id]
    assert again["attempts"][0]["state"] == "lost"
    place.open_gate("tries-again")
    assert forge.api.wait_until(tries_again)["state"] == "succeeded"
    assert forge.api.log(tries_again) == b"begun\ndone\n"

    wire.mend()
    assert forge.api.wait_until(waits, "running")["state"] == "running"
    place.open_gate("waits")
    back = forge.api.wait_until(waits)
    assert (back["state"], back["log_complete"]) == ("succeeded", True)
    assert forge.api.log(waits) == b"begun\ndone\n"
    assert place.ledger("waits") == [f"{waits}.1"]
    # What was given up is ended where it ran, which says that its result came too late.
    place.open_gate("gives-up")
    wait_for(lambda: f"ask #{gives_up} was given up" in far.said(), "far was told")
    told = "came back and said at .*: (The program|What was left of it) .* The task stays lost"
    wait_for(lambda: re.search(told, forge.api.task(gives_up)["reason"]), "far has said how")
    assert forge.api.task(gives_up)["state"] == "lost"
    first = forge.api.send("GET", f"tasks/{tries_again}/log?attempt=1").content
    assert first.startswith(b"begun\n")


def test_a_cut_that_ends_with_the_lease_is_followed_by_another_attempt(
    forge: Deployment, place: Place, wire: Wire
) -> None:
    """The worker lives, has ended the program itself, and is the one that tells Forge."""
    forge.worker(place.runner("brief"), FORGE_URL=wire.url)
    task = place.run("work", **RETRY)
    wire.cut()
    wait_for(lambda: not of_attempt(forge, task, 1), "the lease has ended the first attempt")
    wire.mend()
    again = wait_for(lambda: attempt_in(forge, task, 2, "running"), "the second attempt runs")
    assert "lease" in again["attempts"][0]["reason"]
    place.open_gate("work")
    assert forge.api.wait_until(task)["state"] == "succeeded"
    assert place.ledger("work") == [f"{task}.1", f"{task}.2"]


def test_a_suspended_worker_is_no_reason_to_run_twice(forge: Deployment, place: Place) -> None:
    asleep = forge.worker(place.runner("asleep"))
    task = place.run("work", **RETRY)
    near = place.runner("near")
    asleep.process.send_signal(signal.SIGSTOP)
    try:
        forge.worker(near)
        wait_for(lambda: attempt_in(forge, task, 2, "running"), "the second attempt runs")
        starts = [f"{task}.1", f"{task}.2"]
        wait_for(lambda: place.ledger("work") == starts, "both have said so themselves")
        # Its supervisor has ended the first one; the worker itself still sleeps.
        assert of_attempt(forge, task, 2) and not of_attempt(forge, task, 1)
    finally:
        asleep.process.send_signal(signal.SIGCONT)
    wait_for(lambda: f"Attempt 1 of task #{task} was given up" in asleep.said(), "it was told")
    place.open_gate("work")
    ended = forge.api.wait_until(task)
    assert (ended["state"], ended["attempt"], ended["runner"]) == ("succeeded", 2, near.id)
    assert place.ledger("work") == [f"{task}.1", f"{task}.2"]


@pytest.mark.parametrize("policy", ["wait", "retry"])
def test_what_has_lost_its_supervisor_and_the_fork_server_is_over_before_forge_says_so(
    forge: Deployment, place: Place, policy: str
) -> None:
    forge.worker(place.runner("bereft"))
    # It holds the lock too, and nothing that Forge gave it but its output.
    child = "setsid env -i bash -c 'trap \"\" INT TERM; exec sleep 600' &\necho begun"
    fields = RETRY if policy == "retry" else {}
    task = place.run("work", script=STUBBORN.replace("echo begun", child), **fields)
    supervisor = psutil.Process(of_attempt(forge, task, 1)[0]).parent()
    while supervisor is not None and supervisor.name() != "forge-supervise":
        supervisor = supervisor.parent()
    assert supervisor is not None
    server = supervisor.parent()
    assert server is not None and server.name() == "forge-forkserve"
    server.kill()
    supervisor.kill()
    if policy == "retry":
        ended = wait_for(lambda: attempt_in(forge, task, 2, "running"), "the second attempt runs")
        starts = [f"{task}.1", f"{task}.2"]
        wait_for(lambda: place.ledger("work") == starts, "and has said so itself")
        place.open_gate("work")
        first = ended["attempts"][0]
        assert forge.api.wait_until(task)["state"] == "succeeded"
    else:
        first = forge.api.wait_until(task)
        lock = ["flock", "--nonblock", str(place.folder / "work" / "lock"), "true"]
        assert subprocess.run(lock).returncode == 0, "something of it lives"
    assert first["state"] == "failed" and "supervisor was lost" in first["reason"]
    assert (
        first["log_complete"]
        and forge.api.send("GET", f"tasks/{task}/log?attempt=1").content == b"begun\n"
    )


def test_a_stop_of_an_unreachable_task_takes_effect_when_its_runner_is_back(
    forge: Deployment, place: Place, wire: Wire
) -> None:
    forge.worker(place.runner("far"), FORGE_URL=wire.url)
    task = place.run("work", script="echo begun; sleep 600")
    given_up = place.run("other", script="echo begun; exec -a forge-given-up-8 sleep 600")
    wire.cut()
    forge.api.wait_until(task, "unreachable")
    forge.api.wait_until(given_up, "unreachable")
    forge.api.post(f"tasks/{task}/stop")
    forge.api.post(f"tasks/{given_up}/force-stop")
    assert forge.api.task(task)["state"] == "unreachable"
    ended = forge.api.task(given_up)
    assert ended["state"] == "lost" and "Force-stopped by admin." in ended["reason"]
    assert processes_with("forge-given-up-8")
    wire.mend()
    ended = forge.api.wait_until(task)
    assert ended["state"] == "stopped" and "Stopped by admin." in ended["reason"]
    wait_for(lambda: not processes_with("forge-given-up-8"), "what was given up is ended")
    told = "What was left of it was ended"
    wait_for(lambda: told in forge.api.task(given_up)["reason"], "its runner has said so")
    assert forge.api.task(given_up)["state"] == "lost"


def test_a_worker_that_stood_still_before_it_started_the_program_asks_again(
    forge: Deployment, place: Place
) -> None:
    conductor = Conductor(place.folder)
    try:
        forge.worker(place.runner("slow"), FORGE_FAILPOINTS=str(place.folder))
        conductor.arm("claim answered", pass_over=0)
        task = forge.api.run_script(place.project, f"echo start >> {place.folder}/ledger; echo up")
        assert conductor.held(60) is not None
        old = time.monotonic() + float(SHORT["FORGE_LEASE_SECONDS"])
        wait_for(lambda: time.monotonic() > old, "the answer is older than the lease")
        conductor.release()
        ended = forge.api.wait_until(task)
    finally:
        conductor.close()
    assert (ended["state"], ended["attempt"]) == ("succeeded", 1), ended["reason"]
    assert forge.api.log(task) == b"up\n"
    assert (place.folder / "ledger").read_text() == "start\n"


# Stops


def _heartbeat(forge: Deployment, runner: Runner) -> str:
    return str(forge.api.get(f"runners/{runner.id}/")["last_heartbeat_at"])


@pytest.mark.parametrize("how", ["stop", "force-stop"])
def test_a_stop_that_overtakes_the_answer_to_the_claim_keeps_the_program_from_starting(
    forge: Deployment, place: Place, how: str
) -> None:
    conductor = Conductor(place.folder)
    try:
        runner = place.runner("late")
        forge.worker(runner, FORGE_FAILPOINTS=str(place.folder))
        conductor.arm("claim answered", pass_over=0)
        task = forge.api.run_script(place.project, f"echo started > {place.folder}/ledger")
        assert conductor.held(60) is not None
        assert forge.api.post(f"tasks/{task}/{how}")["state"] == "stopping"
        for _ in range(2):  # the answer to the first one is obeyed before the second one is sent
            before = _heartbeat(forge, runner)
            wait_for(lambda: _heartbeat(forge, runner) != before, "another heartbeat")  # noqa: B023
        conductor.release()
        ended = forge.api.wait_until(task)
    finally:
        conductor.close()
    assert ended["state"] == "stopped" and "topped by admin." in ended["reason"]
    assert ended["started_at"] is None and not (place.folder / "ledger").exists()


def test_a_stop_follows_the_templates_steps_and_the_log_tells_each(
    forge: Deployment, place: Place
) -> None:
    forge.worker(place.runner("runner"))
    steps = [{"signal": "HUP", "grace_seconds": 60}, {"signal": "TERM", "grace_seconds": 1}]
    script = "trap 'echo cleaning up; kill $!; trap \"\" TERM' HUP\necho begun\nsleep 600 &\nwait\n"
    script += "while :; do sleep 0.1; done"
    task = place.run("work", script=script, stop_steps=steps[1:])
    forge.api.post(f"tasks/{task}/stop")
    assert forge.api.wait_until(task)["state"] == "stopped"
    log = forge.api.log(task).decode()
    assert "forge: stopping: Stopped by admin.\nforge: sent TERM to 2 processes, waiting" in log
    assert "forge: all of its processes have ended, " in log

    talks = place.run("talks", script="trap 'echo why; exit' INT\necho begun\nread < <(sleep 600)")
    forge.api.post(f"tasks/{talks}/stop")
    forge.api.wait_until(talks)
    told = forge.api.log(talks).decode()
    assert 0 < told.index("\nforge: sent INT to ") < told.index("\nwhy\n")

    stubborn = place.run("stubborn", script=script, stop_steps=[steps[0]])
    forge.api.post(f"tasks/{stubborn}/stop")
    forge.api.await_output(stubborn, b"cleaning up")
    assert forge.api.task(stubborn)["state"] == "stopping"
    forge.api.post(f"tasks/{stubborn}/force-stop")
    ended = forge.api.wait_until(stubborn)
    assert (ended["state"], ended["reason"]) == ("stopped", "Force-stopped by admin.")
    assert ended["log_complete"]
    lines = forge.api.log(stubborn).decode().splitlines()
    steps_told = [line.split(" to ")[0] for line in lines if line.startswith("forge: ")]
    assert steps_told[:2] == ["forge: stopping: Stopped by admin.", "forge: sent HUP"]
    assert "forge: stopping: Force-stopped by admin." in lines
    assert any("sent KILL to" in line for line in lines)


def test_a_time_limit_stops_by_the_same_steps(forge: Deployment, place: Place) -> None:
    forge.worker(place.runner("runner"))
    steps = [{"signal": "USR1", "grace_seconds": 60}]
    # Writes all the time: what is busy is not to outlive its limit either.
    script = "trap 'echo enough; exit 4' USR1\necho begun\nwhile :; do echo x; sleep 0.01; done"
    task = place.run("work", script=script, stop_steps=steps, timeout_seconds=2)
    ended = forge.api.wait_until(task)
    assert (ended["state"], ended["exit_code"]) == ("failed", 4)
    assert "limit of 2 s" in ended["reason"]
    assert b"forge: stopping: It ran longer than its limit of 2 s.\n" in forge.api.log(task)


# A worker that is told to end


@pytest.fixture
def draining(forge: Deployment, place: Place) -> tuple[Worker, int]:
    """A worker that waits for its task, which cleans up on INT."""
    worker = forge.worker(place.runner("drained"))
    script = "trap 'echo cleaned up; exit 0' INT\necho begun\n"
    script += "until [ -e {folder}/gate ]; do sleep 0.1; done; echo done"
    task = place.run("work", script=script)
    worker.process.terminate()
    forge.api.await_status(worker.runner.id, "draining")
    return worker, task


def test_a_draining_worker_says_what_it_waits_for_and_takes_nothing_new(
    forge: Deployment, place: Place, draining: tuple[Worker, int]
) -> None:
    worker, task = draining
    wait_for(lambda: f"waiting for #{task} (template" in worker.said(), "it says so")
    other = forge.api.run_script(place.project, "echo never here")
    place.open_gate("work")
    assert forge.api.wait_until(task)["state"] == "succeeded"
    assert worker.process.wait(60) == 0
    assert forge.api.task(other)["state"] == "queued"
    forge.api.await_status(worker.runner.id, "offline")


def test_a_task_of_a_draining_worker_can_be_stopped(
    forge: Deployment, draining: tuple[Worker, int]
) -> None:
    worker, task = draining
    forge.api.post(f"tasks/{task}/stop")
    assert forge.api.wait_until(task)["state"] == "stopped"
    assert worker.process.wait(60) == 0


def test_a_second_term_stops_the_tasks_by_their_steps(
    forge: Deployment, draining: tuple[Worker, int]
) -> None:
    worker, task = draining
    worker.process.terminate()
    ended = forge.api.wait_until(task)
    assert ended["state"] == "stopped" and "shut down" in ended["reason"]
    assert b"cleaned up\n" in forge.api.log(task)
    assert worker.process.wait(60) == 0


def test_quit_kills_them(forge: Deployment, draining: tuple[Worker, int]) -> None:
    worker, task = draining
    worker.process.send_signal(signal.SIGQUIT)
    assert forge.api.wait_until(task)["state"] == "stopped"
    log = forge.api.log(task)
    assert b"sent KILL to" in log and b"cleaned up" not in log
    assert worker.process.wait(60) == 0
