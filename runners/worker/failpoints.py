"""Named places in the program where a test can hold it still and harm somebody meanwhile.

`tests/chaos` names a folder in `FORGE_FAILPOINTS`. A process that reaches a place writes so into
the folder's record, asks at the folder's socket whether to go on, and writes when it does. What
was done between the two lines fell inside the boundary, and the program's own record proves it.

Without that variable, which is to say everywhere else, a call is one comparison. The second of
the two modules that server and runners share, because a boundary lies on both sides.
"""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

RECORD = "record.jsonl"
SOCKET = "ask"

_folder = os.environ.get("FORGE_FAILPOINTS")


def reached(place: str, *, task: int, attempt: int, runner: str = "") -> None:
    """Say that `place` is reached for this attempt, and return when told to go on.

    runner: whose task it is, where the process that says so is not the runner's own.
    """
    if _folder is not None:
        _hold(Path(_folder), place, task, attempt, runner)


def _hold(folder: Path, place: str, task: int, attempt: int, runner: str) -> None:
    line = {
        "place": place,
        "task": task,
        "attempt": attempt,
        "runner": runner,
        "pid": os.getpid(),
    }
    _write(folder, {"way": "in", **line})
    _ask(folder, line)
    _write(folder, {"way": "out", **line})


def _write(folder: Path, line: dict[str, object]) -> None:
    """One line, whole, also when several processes write at once."""
    record = os.open(folder / RECORD, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(record, json.dumps({"at": time.monotonic(), **line}).encode() + b"\n")
    finally:
        os.close(record)


def _ask(folder: Path, line: dict[str, object]) -> None:
    """Wait for any answer; nobody there is an answer too."""
    try:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(folder / SOCKET))
            asking.sendall(json.dumps(line).encode() + b"\n")
            asking.recv(1)
    except OSError:
        return
