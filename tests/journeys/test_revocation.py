"""A runner is removed while its task runs, with a process tree that will not go by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import redis

from tests.deployment.client import wait_for
from tests.deployment.deployment import Deployment, Worker, processes_with

AIM_SECONDS = 2.0
# A child that leaves the session, and its child, which no polite signal ends.
SCRIPT = """
trap '' INT TERM HUP QUIT
setsid bash -c "trap '' INT TERM HUP QUIT; (trap '' INT TERM HUP QUIT; \\
  while :; do sleep 0.2; done) & echo up {marker}; wait" &
while :; do sleep 0.2; done
"""


def test_a_removed_runner_loses_connection_and_processes_and_its_task_says_why(
    forge: Deployment, tmp_path: Path
) -> None:
    marker = f"revoked-{time.monotonic_ns()}"
    project = forge.api.project("Revoking")
    runner = forge.api.runner(project, "stolen")
    worker = forge.worker(runner)
    task = forge.api.run_script(project, SCRIPT.format(marker=marker))
    forge.api.await_output(task, f"up {marker}".encode())
    tree = family_of(marker)
    assert len(tree) >= 3
    account = f"runner-{runner.id}"
    with redis.Redis.from_url(forge.place["broker_url"]) as broker:

        def connections() -> list[dict[str, Any]]:
            return [row for row in broker.client_list() if row["user"] == account]

        assert connections()
        begun = time.monotonic()
        forge.api.remove_runner(runner.id)
        events: dict[str, Callable[[], bool]] = {
            "the broker's connections are gone": lambda: not connections(),
            "the process tree has ended": lambda: not any(one.is_running() for one in tree),
            "the worker has ended": lambda: worker.process.poll() is not None,
        }
        seconds = await_all(events, begun)
    for what, after in seconds.items():
        print(f"\n{what} {after:.2f} s after the removal (aim: {AIM_SECONDS:g} s)", end="")
    assert worker.process.returncode == 2
    assert_says_why(worker)
    ended = forge.api.wait_until(task)
    assert ended["state"] == "failed"
    assert ended["reason"].startswith("Runner stolen was removed by admin while the task")
    assert not processes_with(marker)


def family_of(marker: str) -> list[psutil.Process]:
    """The child in its own session, its child, and the script's own process, their ancestor."""
    found = processes_with(marker)
    (script,) = {parent for one in found if (parent := one.parent()) and parent not in found}
    return [script, *found]


def assert_says_why(worker: Worker) -> None:
    """One sentence, no traceback."""
    said = worker.said()
    assert "This runner was removed from Forge at " in said
    assert "its tasks were ended." in said
    assert "Traceback" not in said


def await_all(events: dict[str, Callable[[], bool]], begun: float) -> dict[str, float]:
    """When each of them happened, in seconds since `begun`."""
    seconds: dict[str, float] = {}

    def look() -> bool:
        for what, has_happened in events.items():
            if what not in seconds and has_happened():
                seconds[what] = time.monotonic() - begun
        return len(seconds) == len(events)

    wait_for(look, "the removal has taken effect everywhere")
    return seconds
