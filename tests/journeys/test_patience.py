"""A Forge with tiny quotas: runners are told to wait, obey, and lose nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployment.client import wait_for
from tests.deployment.deployment import SHORT, Deployment

TINY = {
    **SHORT,
    "FORGE_RUNNER_REQUESTS_PER_SECOND": "3",
    "FORGE_RUNNER_LOG_BYTES_PER_SECOND": "200000",
    "FORGE_OFFLINE_SECONDS": "30",
}


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("forge"), TINY) as deployment:
        yield deployment


def test_a_busy_runner_never_meets_the_quotas_that_forge_has_by_default(tmp_path: Path) -> None:
    """A hundred at once, as many short tasks as this machine does, and a log that floods."""
    with Deployment(tmp_path) as forge:
        project = forge.api.project("Busy")
        forge.worker(forge.api.runner(project, "busy-1", concurrency=100))
        short = forge.api.template(project, "echo done")
        large = forge.api.run_script(project, "seq 3000000")
        begun = time.monotonic()
        tasks = [forge.api.run(project, short) for _ in range(300)]
        ended = forge.api.finished([*tasks, large])
        assert {task["state"] for task in ended} == {"succeeded"}
        print(f"\n300 short tasks and a log of 23 MB in {time.monotonic() - begun:.1f} s")
        assert "too_many" not in web_log(forge)


def web_log(forge: Deployment) -> str:
    return (forge.data / "logs" / "web.log").read_text()


def test_many_short_tasks_all_end_well_although_their_runner_is_told_to_wait(
    forge: Deployment,
) -> None:
    project = forge.place["project_id"]
    template = forge.api.template(project, "echo done")
    tasks = [forge.api.run(project, template) for _ in range(40)]
    ended = forge.api.finished(tasks)
    assert {(task["state"], task["log_complete"]) for task in ended} == {("succeeded", True)}
    assert {task["attempt"] for task in ended} == {1}
    assert {forge.api.log(task) for task in tasks} == {b"done\n"}
    assert "too_many_requests: Runner demo-1 may send 3 requests" in web_log(forge)


def test_a_log_beyond_the_quota_arrives_whole_and_slower(forge: Deployment) -> None:
    # Eight seconds' worth may come at once; this is more.
    task = forge.api.run_script(forge.place["project_id"], "seq 400000")
    ended = forge.api.wait_until(task)
    assert (ended["state"], ended["log_complete"]) == ("succeeded", True)
    assert forge.api.log(task) == b"".join(b"%d\n" % n for n in range(1, 400_001))
    wait_for(lambda: "too_many_bytes: Runner demo-1 may send 0.2 MB" in web_log(forge), "it is")
    said = (forge.data / "logs" / "runner.log").read_text()
    assert "asks for patience" in said and "Traceback" not in said


def test_a_runner_whose_results_wait_asks_for_no_more_than_it_may_hold(forge: Deployment) -> None:
    """Its logs may go only so fast; its tasks come and go faster."""
    project = forge.api.project("Faster than its logs")
    forge.worker(forge.api.runner(project, "fast-1", concurrency=2))
    template = forge.api.template(project, "seq 40000")
    tasks = [forge.api.run(project, template) for _ in range(20)]
    ended = forge.api.finished(tasks)
    assert {(task["state"], task["log_complete"]) for task in ended} == {("succeeded", True)}
    assert "too_many_bytes: Runner fast-1" in web_log(forge)
    assert "holds enough" not in web_log(forge)


def test_a_log_beyond_the_quota_costs_its_runner_no_heartbeat_and_another_task_no_log(
    forge: Deployment,
) -> None:
    """The flood goes on for long after the other tasks have come and gone."""
    project, runner = forge.place["project_id"], forge.place["runner_id"]
    gate = forge.folder / "gate"
    script = f"while [ ! -e {gate} ]; do seq 20000; sleep 0.1; done"
    flood = forge.api.run_script(project, script)
    forge.api.await_output(flood, b"20000\n" * 1)
    quick = forge.api.template(project, "echo first; sleep 0.5; echo second")
    tasks = [forge.api.run(project, quick) for _ in range(3)]
    begun = time.monotonic()
    ended = forge.api.finished(tasks)
    print(f"\nbeside a flood, three logs in {time.monotonic() - begun:.1f} s")
    assert {(task["state"], task["log_complete"]) for task in ended} == {("succeeded", True)}
    assert {forge.api.log(task) for task in tasks} == {b"first\nsecond\n"}
    running = forge.api.task(flood)
    assert running["state"] == "running"
    assert forge.api.status(runner) != "offline"
    gate.touch()
    whole = forge.api.wait_until(flood)
    assert (whole["state"], whole["log_complete"]) == ("succeeded", True)
    rounds = b"".join(b"%d\n" % number for number in range(1, 20_001))
    content = forge.api.log(flood)
    assert content == rounds * (len(content) // len(rounds))
