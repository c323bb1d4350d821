"""What is left of an attempt, without all that watched over it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil

from runners.worker.origin import Origin
from runners.worker.processes import cgroup_of, status_of
from runners.worker.remains import Remains, Trail
from runners.worker.supervision import boot_seconds

GONE = Remains(0, is_certain=True)
UNSURE = Remains(0, is_certain=False)
URL = "https://forge.example.net"
TASK = 987_654_321
MARKS = {"FORGE_TASK_ID": str(TASK), "FORGE_ATTEMPT": "1", "FORGE_URL": URL}
SLEEP = "echo $$; exec sleep 1000"
# As the first process of a container, or a user's service manager, it adopts what is left below
# it; here, that of this test alone. Starts each script so that it has lost its parent, and says
# what the script says first.
HEIR = """
import ctypes, json, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
for line in sys.stdin:
    order = json.loads(line)
    parent = subprocess.Popen(
        ["setsid", "--fork", "bash", "-c", order["script"]],
        cwd=order["folder"], env=order["environment"], stdout=subprocess.PIPE,
    )
    said = parent.stdout.readline().decode().strip()
    parent.wait()
    print(said, flush=True)
"""


class Heir:
    """Whose children the processes of an attempt are, once all that watched over them is dead."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", HEIR], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self._process.pid
        self.begun = 0.0

    def leave(
        self,
        script: str = SLEEP,
        folder: Path = Path("/"),
        marks: Mapping[str, str] = MappingProxyType({}),
    ) -> psutil.Process:
        """An orphan, or whatever process the script names first."""
        self.begun = self.begun or boot_seconds()
        order: dict[str, Any] = {"script": script, "folder": str(folder)}
        order["environment"] = {"PATH": os.environ["PATH"], **marks}
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return psutil.Process(int(self._process.stdout.readline()))

    @property
    def origin(self) -> Origin:
        return Origin(self.begun or boot_seconds(), cgroup_of(os.getpid()), (self.name,))

    @property
    def name(self) -> tuple[int, int]:
        return self.pid, status_of(self.pid).ticks

    def end(self) -> None:
        for process in psutil.Process(self.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.communicate()


def trail(folder: Path, origin: Origin, begun: float = 0.0, uid: int | None = None) -> Trail:
    return Trail(TASK, 1, URL, folder, origin, begun=begun, uid=uid)


def is_over(process: psutil.Process) -> bool:
    """Gone, or dead and not yet collected by whoever has adopted it."""
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    return True
