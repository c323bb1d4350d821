"""A task may leave more files than their names find room in the worker."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HUGE = """
import resource, sys
from runners.worker.supervision import remove_folder
pages = int(open("/proc/self/statm").read().split()[0])
most = pages * resource.getpagesize() + 9 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (most, most))
remove_folder(sys.argv[1].encode())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of its memory")
@pytest.mark.parametrize("inner", [".", "within"])
def test_so_many_files_that_their_names_are_larger_than_the_workers_memory_are_deleted(
    inner: str, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    (folder / inner).mkdir(parents=True)
    for number in range(45_000):
        os.mknod(folder / inner / f"{number:0250}")
    subprocess.run([sys.executable, "-c", HUGE, str(folder)], check=True, cwd=ROOT)
    assert not folder.exists()
