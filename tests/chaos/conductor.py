"""The other end of `runners.worker.failpoints`: lets everybody pass but the one to be held."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

# In the order in which a task passes them.
PLACES = (
    "row committed",
    "hint published",
    "hint popped",
    "claim sent",
    "claim committed",
    "claim answered",
    "process started",
    "mid-log",
    "process exited",
    "result journaled",
    "result sent",
    "result committed",
)
# Where a task has a program, which may wait at a gate.
WITH_PROGRAM = ("process started", "mid-log")


@dataclass(frozen=True)
class Hold:
    """One process that stands still at a place; `runner` is empty where it is its own worker's."""

    place: str
    task: int
    attempt: int
    runner: str
    pid: int


@dataclass(frozen=True)
class Passage:
    """A process came to a place with an attempt; `at` is its `time.monotonic()`."""

    place: str
    task: int
    attempt: int
    pid: int
    at: float


class Conductor:
    """Give `folder` to the processes as FORGE_FAILPOINTS; then `arm`, `held`, `release`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._record = folder / "record.jsonl"
        self._record.touch()
        self._read: list[dict[str, Any]] = []
        self._read_bytes = 0
        self._changed = threading.Condition()
        self._place = ""
        self._pass_over = 0
        self._held: tuple[Hold, socket.socket] | None = None
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / "ask"))
        self._listener.listen(256)
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self.release()
        self._listener.close()

    def arm(self, place: str, *, pass_over: int) -> None:
        """Hold who reaches `place` next, after letting `pass_over` others go by."""
        with self._changed:
            self._place, self._pass_over = place, pass_over

    def disarm(self) -> None:
        self.arm("", pass_over=0)

    def held(self, seconds: float) -> Hold | None:
        """Wait until somebody is held."""
        with self._changed:
            self._changed.wait_for(lambda: self._held is not None, seconds)
            return self._held[0] if self._held is not None else None

    def release(self) -> None:
        with self._changed:
            held, self._held = self._held, None
        if held is not None:
            _answer(held[1])

    def _serve(self) -> None:
        while True:
            try:
                asking, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._decide, args=(asking,), daemon=True).start()

    def _decide(self, asking: socket.socket) -> None:
        try:
            question = json.loads(asking.makefile().readline())
        except (OSError, ValueError):  # it was killed in the middle of asking
            asking.close()
            return
        if not self._holds(Hold(**question), asking):
            _answer(asking)

    def _holds(self, one: Hold, asking: socket.socket) -> bool:
        with self._changed:
            if one.place != self._place:
                return False
            if self._pass_over:
                self._pass_over -= 1
                return False
            self._place = ""
            self._held = (one, asking)
            self._changed.notify_all()
            return True

    def is_proven(self, hold: Hold, at: float) -> bool:
        """Whether by the program's own record `hold` was entered before `at` and not yet left.

        at: `time.monotonic()`, which all processes of a machine share.
        """
        same = [
            line
            for line in self._lines()
            if (line["place"], line["task"], line["attempt"], line["pid"])
            == (hold.place, hold.task, hold.attempt, hold.pid)
            and line["at"] <= at
        ]
        return bool(same) and same[-1]["way"] == "in"

    def passages(self, tasks: Collection[int]) -> tuple[Passage, ...]:
        """All that the record says of these tasks, in order."""
        names = [one.name for one in fields(Passage)]
        return tuple(
            Passage(**{name: line[name] for name in names})
            for line in self._lines()
            if line["way"] == "in" and line["task"] in tasks
        )

    def _lines(self) -> list[dict[str, Any]]:
        """The whole record, of which only what is new is read. Called in one thread."""
        with self._record.open("rb") as record:
            record.seek(self._read_bytes)
            new = record.read()
        new = new[: new.rfind(b"\n") + 1]
        self._read_bytes += len(new)
        self._read += [json.loads(line) for line in new.splitlines()]
        return self._read


def _answer(asking: socket.socket) -> None:
    with suppress(OSError):
        asking.sendall(b".")
    asking.close()
