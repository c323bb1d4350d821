"""A runner whose disk is full: its tasks end with a reason, and with room it works again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import broker as real_broker
from tests.deployment.client import wait_for
from tests.deployment.deployment import Deployment, processes_with

MARKER = "forge-full-disk-test-5512"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """16 MB, as a file system of its own."""
    if os.geteuid() != 0:
        if "netns" in real_broker.required():
            pytest.fail("a file system of its own needs root")
        pytest.skip("a file system of its own needs root")
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)]
    made = subprocess.run(mount, capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no mounts here: {made.stderr}")
    yield place
    subprocess.run(["umount", "-l", str(place)], capture_output=True)


def test_tasks_end_with_a_reason_and_later_ones_run_once_there_is_room(
    forge: Deployment, small_disk: Path
) -> None:
    project = forge.api.project("Full disk")
    runner = forge.api.runner(project, "full-1")
    worker = forge.worker(runner, FORGE_RUNNER_DATA=str(small_disk / "journals"))
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 12_000_000)
    script = f"trap '' PIPE; head -c 40000000 /dev/zero; exec -a {MARKER} sleep 600"
    task = forge.api.run_script(project, script)
    ended = forge.api.wait_until(task)
    assert ended["state"] == "failed" and "No space left" in ended["reason"], ended
    wait_for(lambda: not processes_with(MARKER), "nothing of it is left")
    ballast.unlink()
    later = forge.api.wait_until(forge.api.run_script(project, "echo room again"))
    assert (later["state"], later["log_complete"]) == ("succeeded", True), worker.said()
