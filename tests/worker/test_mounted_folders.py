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

UNSHARE = ["unshare", "--map-root-user", "--mount"]


def can_mount() -> bool:
    if shutil.which("unshare") is None or shutil.which("mount") is None:
        return False
    tried = [*UNSHARE, "mount", "-t", "tmpfs", "none", "/tmp"]
    return subprocess.run(tried, capture_output=True).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="needs mounts of its own")
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
    code = f"{inspect.getsource(removal)}\nremove_folder({os.fsencode(folder)!r})"
    script = 'mount --bind "$1" "$2"; chmod "$3" "${2%/*}"; exec "$4" -c "$5"'
    mode = "000" if is_closed else "700"
    given = [str(outside), str(folder / place), mode, sys.executable, code]
    subprocess.run([*UNSHARE, "sh", "-ec", script, "sh", *given], check=True)
    left = sorted(str(path.relative_to(outside)) for path in outside.rglob("*"))
    assert left == ["file", "inner", "inner/deep", "inner/deep/file", "inner/file"]
    assert outside.stat().st_mode & 0o777 == 0o500
    # What is the task's own goes, but for the folders that lead there.
    assert not [path for path in folder.rglob("*") if path.is_file()]
