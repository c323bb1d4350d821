"""Processes are killed while tasks wait and run: every task ends, started once, log complete."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from tests.deployment.client import wait_for
from tests.deployment.deployment import Deployment, Worker, processes_with

# Writes its id and attempt to a ledger of its own, so that a second start cannot hide.
SCRIPT = """echo "$FORGE_TASK_ID.$FORGE_ATTEMPT" >> {ledger}
for n in $(seq 20); do echo "line $n"; sleep 0.1; done"""
LOG = b"".join(b"line %d\n" % n for n in range(1, 21))

FAULTS: dict[str, Callable[[Deployment], None]] = {
    "broker": lambda forge: forge.kill("broker"),
    "broker and its data": lambda forge: forge.kill_broker_and_its_data(),
    "controller": lambda forge: forge.kill("controller"),
    "web": lambda forge: forge.kill("web"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_task_ends_started_once_with_its_whole_log(
    fault: str, forge: Deployment, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    project = forge.place["project_id"]
    template = forge.api.template(project, SCRIPT.format(ledger=ledger))
    # The demo runner takes four at a time: some run, some wait.
    tasks = [forge.api.run(project, template) for _ in range(10)]
    wait_for(lambda: ledger.exists() and ledger.read_text().count("\n") >= 3, "some tasks run")
    FAULTS[fault](forge)
    tasks += [forge.api.run(project, template) for _ in range(2)]
    ended = forge.api.finished(tasks)
    assert {(task["state"], task["log_complete"]) for task in ended} == {("succeeded", True)}
    assert sorted(ledger.read_text().split()) == sorted(f"{task}.1" for task in tasks)
    assert {forge.api.log(task) for task in tasks} == {LOG}


@pytest.fixture
def lone(forge: Deployment, request: pytest.FixtureRequest) -> Worker:
    """The only runner of a project of its own."""
    name = request.node.name.replace("_", "-")[-40:].strip("-")
    project = forge.api.project(name)
    return forge.worker(forge.api.runner(project, "lone-1"))


def project_of(forge: Deployment, worker: Worker) -> int:
    for project in forge.api.get("projects/?page_size=200")["results"]:
        rows = forge.api.get(f"projects/{project['id']}/runners/")["results"]
        if worker.runner.id in {row["id"] for row in rows}:
            return int(project["id"])
    raise AssertionError("no project has this runner")


def start_a_tree(forge: Deployment, worker: Worker, marker: str, **fields: object) -> int:
    """A task whose program left its session and its environment behind."""
    script = f"(setsid env -i bash -c 'exec -a {marker} sleep 600' &) ; echo up; sleep 600"
    task = forge.api.run_script(project_of(forge, worker), script, **fields)
    forge.api.await_output(task, b"up")
    wait_for(lambda: processes_with(marker), "the grandchild runs")
    return task


def test_a_killed_worker_leaves_no_process_and_its_task_ends_with_a_reason(
    forge: Deployment, lone: Worker
) -> None:
    task = start_a_tree(forge, lone, "forge-kill-test-2201", lost_runner_wait_seconds=4)
    lone.kill()
    wait_for(lambda: not processes_with("forge-kill-test-2201"), "the tree is gone")
    lost = forge.api.wait_until(task, "lost")
    assert lost["state"] == "lost" and "lone-1" in lost["reason"]


def test_a_restarted_worker_reports_what_its_predecessor_could_not(
    forge: Deployment, lone: Worker
) -> None:
    task = start_a_tree(forge, lone, "forge-kill-test-2202")
    lone.kill()
    lone.start()
    ended = forge.api.wait_until(task)
    assert ended["state"] == "failed" and "was killed while it ran" in ended["reason"]
    log = forge.api.log(task)
    assert log.startswith(b"up\nforge: the runner's worker was killed here;")
    # What was on its way from the program to the worker is gone, and that is said.
    assert not ended["log_complete"]
    assert ended["log_problem"].endswith("what the program wrote last may be missing.")


def test_a_removed_runner_is_cut_off_and_says_so(forge: Deployment, lone: Worker) -> None:
    task = start_a_tree(forge, lone, "forge-kill-test-2203")
    forge.api.remove_runner(lone.runner.id)
    wait_for(lambda: not processes_with("forge-kill-test-2203"), "the tree is gone")
    wait_for(lambda: lone.process.poll() is not None, "the worker ended")
    assert lone.process.returncode == 2
    assert "removed from Forge" in lone.said() and "Traceback" not in lone.said()
    ended = forge.api.wait_until(task)
    assert ended["state"] == "failed" and "removed by admin" in ended["reason"]
    # The token opens nothing any more.
    lone.start()
    lone.process.wait(60)
    assert lone.process.returncode == 2 and "does not accept this runner's token" in lone.said()


def test_ctrl_c_twice_ends_a_worker_and_its_tasks(forge: Deployment, lone: Worker) -> None:
    task = start_a_tree(forge, lone, "forge-kill-test-2204")
    lone.process.send_signal(signal.SIGINT)
    wait_for(lambda: "Warm shutdown" in lone.said(), "the worker drains")
    lone.process.send_signal(signal.SIGINT)
    lone.process.wait(60)
    assert not processes_with("forge-kill-test-2204")
    assert forge.api.wait_until(task)["state"] == "stopped"
    forge.api.await_status(lone.runner.id, "offline")


def test_a_worker_that_is_told_to_end_lets_its_tasks_finish(
    forge: Deployment, lone: Worker, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    script = f"echo up; while [ ! -e {gate} ]; do sleep 0.05; done; echo done"
    task = forge.api.run_script(project_of(forge, lone), script)
    forge.api.await_output(task, b"up")
    lone.process.terminate()
    wait_for(lambda: "Warm shutdown" in lone.said(), "the worker drains")
    gate.touch()
    assert forge.api.wait_until(task)["state"] == "succeeded"
    assert forge.api.log(task) == b"up\ndone\n"
    assert lone.process.wait(60) == 0


def test_a_tunnel_that_is_refused_is_no_error_of_the_server(forge: Deployment) -> None:
    headers = {
        "Authorization": "Bearer fgr_" + "x" * 43,
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    answer = requests.get(f"{forge.place['url']}/runner/broker", headers=headers, timeout=60)
    assert answer.status_code == 401 and answer.json()["code"] == "unauthorized"
    log = forge.data / "logs" / "web.log"
    wait_for(lambda: "at the broker tunnel" in log.read_text(), "the refusal is logged")
    assert "handshake" not in log.read_text()
