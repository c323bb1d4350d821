"""What a task has mounted below its folder, and left there, is nobody's to delete."""

from __future__ import annotations

import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runners.worker.supervision.server import removal

# A file system that nobody serves: whoever asks it for anything waits for ever.
SILENT = """
import ctypes, os, sys
device = os.open("/dev/fuse", os.O_RDWR)
given = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
if ctypes.CDLL(None, use_errno=True).mount(b"none", os.fsencode(sys.argv[1]), b"fuse", 0, given):
    raise OSError(ctypes.get_errno(), "no mount")
"""
UNSHARE = ["unshare", "--map-root-user", "--mount"]


def can_mount() -> bool:
    if shutil.which("unshare") is None or shutil.which("mount") is None:
        return False
    tried = [*UNSHARE, "mount", "-t", "tmpfs", "none", "/tmp"]
    return subprocess.run(tried, capture_output=True).returncode == 0


def can_fall_silent(folder: Path) -> bool:
    tried = [*UNSHARE, sys.executable, "-c", SILENT, str(folder)]
    return subprocess.run(tried, capture_output=True).returncode == 0


needs_mounts = pytest.mark.skipif(not can_mount(), reason="needs mounts of its own")


def removing(folder: Path, after: str = "") -> str:
    return f"{inspect.getsource(removal)}\n{after}\nremove_folder({os.fsencode(folder)!r})"


@needs_mounts
@pytest.mark.parametrize("place", ["mounted", "folder/mounted", "folder/a/b/mounted"])
@pytest.mark.parametrize("is_closed", [False, True])
def test_what_is_mounted_in_a_folder_stays(place: str, is_closed: bool, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "inner" / "deep").mkdir(parents=True)
    for name in ("file", "inner/file", "inner/deep/file"):
        (outside / name).write_text("kept")
    outside.chmod(0o500)
    folder = tmp_path / "folder"
    (folder / place).mkdir(parents=True)
    (folder / "other").mkdir()
    (folder / "other" / "file").touch()
    (folder / "script.sh").touch()
    script = 'mount --bind "$1" "$2"; chmod "$3" "${2%/*}"; exec "$4" -c "$5"'
    mode = "000" if is_closed else "700"
    given = [str(outside), str(folder / place), mode, sys.executable, removing(folder)]
    subprocess.run([*UNSHARE, "sh", "-ec", script, "sh", *given], check=True)
    left = sorted(str(path.relative_to(outside)) for path in outside.rglob("*"))
    assert left == ["file", "inner", "inner/deep", "inner/deep/file", "inner/file"]
    assert outside.stat().st_mode & 0o777 == 0o500
    # What is the task's own goes, but for the folders that lead there.
    assert not [path for path in folder.rglob("*") if path.is_file()]


@needs_mounts
def test_what_is_mounted_on_the_folder_itself_stays(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    (outside / "inner").mkdir(parents=True)
    (outside / "file").write_text("kept")
    outside.chmod(0o500)
    folder.mkdir()
    script = 'mount --bind "$1" "$2"; exec "$3" -c "$4"'
    given = [str(outside), str(folder), sys.executable, removing(folder)]
    subprocess.run([*UNSHARE, "sh", "-ec", script, "sh", *given], check=True)
    assert sorted(path.name for path in outside.iterdir()) == ["file", "inner"]
    assert outside.stat().st_mode & 0o777 == 0o500


@needs_mounts
@pytest.mark.parametrize("place", [".", "mounted", "a/b/mounted"])
def test_a_mount_whose_server_is_gone_is_waited_for_by_nobody(place: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / place).mkdir(parents=True)
    if not can_fall_silent(folder):
        pytest.skip("needs a file system of its own")
    (folder / "file").touch()
    code = removing(folder, after=SILENT)
    command = [*UNSHARE, sys.executable, "-c", code, str(folder / place)]
    subprocess.run(command, check=True, timeout=60)
    # What is the task's own goes, unless it is out of reach below what was mounted.
    assert (folder / "file").exists() == (place == ".")
