"""One deployment for the journeys of a module that leave it whole, and a disk that gets full."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import broker as real_broker
from tests.deployment.deployment import Deployment


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("forge")) as deployment:
        yield deployment


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


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that other users can reach, as they cannot reach the folder of a test."""
    folder = Path(tempfile.mkdtemp(prefix="forge-users-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)
