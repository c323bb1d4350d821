"""Tasks from the request to the result, over the program's own doors."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.deployment.client import wait_for
from tests.deployment.deployment import Deployment, processes_with

LOGS = {
    "10 MB of every byte value": "import sys; sys.stdout.buffer.write(bytes(range(256)) * 40960)",
    "one line of 10 MB": "import sys; sys.stdout.write('x' * 10_485_760)",
    "200,000 lines": "for i in range(200_000): print('line', i)",
    "both outputs, as written": (
        "import os\nfor i in range(5000): os.write(1 + i % 2, b'%d\\n' % i)"
    ),
    "no output": "pass",
    "a million short lines": "import sys; sys.stdout.write('.\\n' * 1_000_000)",
    "one line of 100 MB": "import sys\nfor _ in range(100): sys.stdout.write('x' * 1_000_000)",
    "NUL, broken UTF-8 and no last line end": (
        "import sys; sys.stdout.buffer.write(b'a\\0b\\xff\\xc3\\r\\x1b[0mend')"
    ),
    "output that is closed early": (
        "import os, time\nos.write(1, b'before')\nos.close(1); os.close(2)\ntime.sleep(0.5)"
    ),
}


@pytest.mark.parametrize("script", LOGS.values(), ids=LOGS.keys())
def test_a_log_is_byte_identical(script: str, forge: Deployment) -> None:
    project = forge.place["project_id"]
    task = forge.api.wait_until(forge.api.run_script(project, script, app="python"))
    by_hand = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ).stdout
    stored = forge.api.log(task["id"])
    assert (task["state"], task["log_complete"]) == ("succeeded", True)
    assert hashlib.sha256(stored).hexdigest() == hashlib.sha256(by_hand).hexdigest()
    assert (task["log_bytes"], task["log_sha256"]) == (
        len(by_hand),
        hashlib.sha256(by_hand).hexdigest(),
    )


def test_a_log_resumes_at_an_offset(forge: Deployment) -> None:
    task = forge.api.wait_until(forge.api.run_script(forge.place["project_id"], "echo 0123456789"))
    answer = forge.api.send("GET", f"tasks/{task['id']}/log?offset=4")
    assert answer.content == b"456789\n"


def test_the_log_comes_while_the_task_runs(forge: Deployment, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    script = f"echo early; while [ ! -e {gate} ]; do sleep 0.05; done; echo late"
    task = forge.api.run_script(forge.place["project_id"], script)
    forge.api.await_output(task, b"early")
    assert forge.api.task(task)["state"] == "running"
    gate.touch()
    assert forge.api.wait_until(task)["state"] == "succeeded"
    assert forge.api.log(task) == b"early\nlate\n"


@pytest.mark.parametrize(
    ("script", "fields", "state", "exit_code", "words"),
    [
        ("exit 0", {}, "succeeded", 0, "exit status 0"),
        ("exit 3", {}, "failed", 3, "exit status 3"),
        ("kill -9 $$", {}, "failed", None, "SIGKILL"),
        ("sleep 600", {"timeout_seconds": 1}, "failed", None, "limit of 1 s"),
    ],
)
def test_the_result_says_how_it_ended(
    script: str,
    fields: dict[str, int],
    state: str,
    exit_code: int | None,
    words: str,
    forge: Deployment,
) -> None:
    task = forge.api.wait_until(forge.api.run_script(forge.place["project_id"], script, **fields))
    assert (task["state"], task["exit_code"]) == (state, exit_code)
    assert words in task["reason"]


def test_the_process_finds_its_variables_and_no_token(forge: Deployment) -> None:
    task = forge.api.run_script(forge.place["project_id"], "env", environment={"REGION": "eu"})
    forge.api.wait_until(task)
    lines = forge.api.log(task).decode().splitlines()
    assert {"REGION=eu", f"FORGE_TASK_ID={task}", "FORGE_ATTEMPT=1"} <= set(lines)
    assert forge.place["runner_token"] not in "\n".join(lines)
    assert not [line for line in lines if line.startswith("FORGE_RUNNER_TOKEN")]


def test_a_stop_ends_the_whole_tree(forge: Deployment) -> None:
    marker = "forge-stop-test-7319"
    script = f"(setsid env -i bash -c 'exec -a {marker} sleep 600' &) ; echo up; sleep 600"
    task = forge.api.run_script(forge.place["project_id"], script)
    forge.api.await_output(task, b"up")
    wait_for(lambda: processes_with(marker), "the grandchild runs")
    forge.api.post(f"tasks/{task}/stop")
    ended = forge.api.wait_until(task)
    assert ended["state"] == "stopped" and "admin" in ended["reason"]
    assert not processes_with(marker)


def test_what_a_program_leaves_running_is_ended_with_it_and_the_reason_says_so(
    forge: Deployment,
) -> None:
    """It holds the output, which must neither keep the task running nor cut its log."""
    marker = "forge-daemon-test-6120"
    daemon = f"exec -a {marker} bash -c 'while :; do echo still here; sleep 0.1; done'"
    script = f'(setsid nohup bash -c "{daemon}" &)\nsleep 1; echo done'
    task = forge.api.wait_until(forge.api.run_script(forge.place["project_id"], script))
    assert (task["state"], task["exit_code"], task["log_complete"]) == ("succeeded", 0, True)
    assert "that it left running" in task["reason"] and "ended" in task["reason"]
    assert b"still here\n" in forge.api.log(task["id"]) and b"done\n" in forge.api.log(task["id"])
    assert not processes_with(marker)


def test_a_waiting_task_is_stopped_at_once(forge: Deployment) -> None:
    project = forge.api.project("Nobody works here")
    task = forge.api.run_script(project, "echo never")
    forge.api.post(f"tasks/{task}/stop")
    assert forge.api.task(task)["state"] == "stopped"


def test_one_template_runs_one_task_at_a_time(forge: Deployment, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    script = f"echo in >> {ledger}; sleep 0.2; echo out >> {ledger}"
    project = forge.place["project_id"]
    template = forge.api.template(project, script, allow_parallel=False)
    tasks = [forge.api.run(project, template) for _ in range(5)]
    ended = forge.api.finished(tasks)
    assert ledger.read_text().split() == ["in", "out"] * 5
    starts = [task["started_at"] for task in ended]
    assert starts == sorted(starts)


def test_a_new_tag_reaches_a_runner_that_already_runs(forge: Deployment) -> None:
    project = forge.api.project("Tags")
    runner = forge.api.runner(project, "tagged-1", tags=["gpu"])
    forge.worker(runner)
    task = forge.api.run_script(project, "echo here", tags=["gpu"])
    assert forge.api.wait_until(task)["runner"] == runner.id


def test_a_program_that_stops_those_who_watch_it_is_ended_all_the_same(forge: Deployment) -> None:
    """Supervisor and fork server are of its own user, so it may send them SIGSTOP."""
    shield = "kill -STOP $(ps -o ppid= -p $PPID) $PPID; sleep 600"
    limited = forge.api.run_script(forge.place["project_id"], shield, timeout_seconds=2)
    ended = forge.api.wait_until(limited)
    assert ended["state"] == "failed" and "longer than its limit of 2 s" in ended["reason"]
    stopped = forge.api.run_script(forge.place["project_id"], f"echo up; {shield}")
    forge.api.await_output(stopped, b"up")
    forge.api.post(f"tasks/{stopped}/stop")
    assert forge.api.wait_until(stopped)["state"] == "stopped"


def test_two_hundred_tasks_stay_in_their_projects_and_no_runner_idles(forge: Deployment) -> None:
    """Two projects, three runners in one and one in the other, one task at a time each."""
    projects = {name: forge.api.project(f"Two hundred, {name}") for name in ("many", "one")}
    runners = {
        projects["many"]: [
            forge.api.runner(projects["many"], f"many-{n}", concurrency=1) for n in range(3)
        ],
        projects["one"]: [forge.api.runner(projects["one"], "one-0", concurrency=1)],
    }
    templates = {
        project: forge.api.template(project, "echo $FORGE_RUNNER; sleep 0.05")
        for project in runners
    }
    queued = {
        project: [forge.api.run(project, templates[project]) for _ in range(100)]
        for project in runners
    }
    for project in runners:
        for runner in runners[project]:
            forge.worker(runner)
    for project, tasks in queued.items():
        ended = forge.api.finished(tasks)
        assert {task["state"] for task in ended} == {"succeeded"}
        own = {runner.id for runner in runners[project]}
        assert {task["runner"] for task in ended} <= own
        assert _idle_with_work(ended) == []


def _idle_with_work(tasks: list[dict[str, Any]]) -> list[str]:
    """Gaps of over five seconds of a runner's work while tasks that it could run waited, and other
    runners ran some: where all stand still it is the machine that does.
    """

    def moment(text: str) -> datetime:
        return datetime.fromisoformat(text)

    last_claim = max(moment(task["claimed_at"]) for task in tasks)
    gaps = []
    for runner in Counter(task["runner"] for task in tasks):
        mine = sorted((t for t in tasks if t["runner"] == runner), key=lambda t: t["claimed_at"])
        for before, after in pairwise(mine):
            idle = moment(after["claimed_at"]) - moment(before["finished_at"])
            others = [
                one
                for one in tasks
                if before["finished_at"] < one["claimed_at"] < after["claimed_at"]
            ]
            if idle > timedelta(seconds=5) and moment(after["claimed_at"]) <= last_claim and others:
                gaps.append(f"runner {runner}: {idle} before task {after['id']}")
    return gaps
