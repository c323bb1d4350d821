"""The quick start's own life: what ends it, what a second one meets, what it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployment.client import wait_for
from tests.deployment.deployment import Deployment, processes_with


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Deployment]:
    """A quick start that a test may do anything to."""
    with Deployment(tmp_path) as deployment:
        yield deployment


def test_kill_9_leaves_no_process_and_the_next_start_ends_the_task_with_a_reason(
    own: Deployment,
) -> None:
    marker = "forge-kill-test-2301"
    script = f"(setsid env -i bash -c 'exec -a {marker} sleep 600' &) ; echo up; sleep 600"
    task = own.api.run_script(own.place["project_id"], script)
    own.api.await_output(task, b"up")
    roles = own.place["pids"]
    own.kill_quick_start()
    wait_for(
        lambda: not processes_with(marker) and not processes_with(str(own.data)),
        "nothing is left of it",
        seconds=10,
    )
    assert not [role for role, pid in roles.items() if Path(f"/proc/{pid}/exe").exists()]
    own.start()
    ended = own.api.wait_until(task)
    assert ended["state"] == "failed" and "worker ended" in ended["reason"]
    assert own.api.log(task) == b"up\n" and ended["log_complete"]
    again = own.api.run_script(own.place["project_id"], "echo again")
    assert own.api.wait_until(again)["state"] == "succeeded"
