"""The processes of a quick start: started, watched, ended, none left behind."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from forge.quickstart.errors import NotReadyError
from runners.worker.fields import printable

ROOT = Path(__file__).resolve().parents[2]
PR_SET_PDEATHSIG = 1
READY_SECONDS = 60.0
TAIL_LINES = 12
LINE_CHARACTERS = 500
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 15.0
# A process that lived this long was fine: its next restart is quick again.
STEADY_SECONDS = 30.0

_libc = ctypes.CDLL(None)


def die_with(parent: int) -> Callable[[], None]:
    """For between fork and exec: even `kill -9` of the quick start leaves nothing behind.

    KILL, because nothing gentler is sure to end before the next start on the same data: on TERM
    and QUIT a runner waits for its tasks, or for a Forge that is gone as well. Its supervisors
    end its tasks within milliseconds, and its journal reports them at the next start.
    """

    def prepare() -> None:
        if sys.platform == "linux":
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)  # it died before it was watched

    return prepare


@dataclass
class Process:
    """One role: its command, its whole environment, its log. `stop_seconds` before SIGKILL."""

    role: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    stop_seconds: float = 8.0
    stop_signal: int = signal.SIGTERM

    def __post_init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._pause = 0.0
        self._not_before = 0.0
        self.is_given_up = False

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    @property
    def status(self) -> int | None:
        """The exit status, None while it runs."""
        return self._process.poll() if self._process else None

    def start(self) -> None:
        """Start it in a process group of its own: a terminal's Ctrl-C is not for it."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with(os.getpid()),
            )
        self._started = time.monotonic()

    def revive(self) -> bool:
        """Start it again if it is dead and its pause is over; True if it was started."""
        if self.status is None or self.is_given_up:
            return False
        now = time.monotonic()
        if not self._not_before:
            steady = now - self._started > STEADY_SECONDS
            self._pause = (
                FIRST_PAUSE if steady else min(self._pause * 2 or FIRST_PAUSE, LONGEST_PAUSE)
            )
            self._not_before = now + self._pause
        if now < self._not_before:
            return False
        self._not_before = 0.0
        self.start()
        return True

    def await_ready(self, is_ready: Callable[[], bool], seconds: float = READY_SECONDS) -> None:
        """Wait until `is_ready`. Raises NotReadyError with the end of the log."""
        deadline = time.monotonic() + seconds
        while not is_ready():
            if self.status is not None:
                raise NotReadyError(f"{self.role} ended ({self._how()}).{self.tail()}")
            if time.monotonic() > deadline:
                raise NotReadyError(f"{self.role} was not ready within {seconds:g} s.{self.tail()}")
            time.sleep(0.05)

    def _how(self) -> str:
        status = self.status or 0
        return f"signal {-status}" if status < 0 else f"exit status {status}"

    def how_it_ended(self) -> str:
        return f"{self.role} ended ({self._how()})"

    def tail(self) -> str:
        """The last lines of its log, for an error message."""
        if not self.log.exists():
            return ""
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        shown = "".join(f"\n    {printable(line, LINE_CHARACTERS)}" for line in lines)
        return f" The end of {self.log}:{shown}"

    def stop(self) -> None:
        """End it: politely, then not. Returns when it is gone."""
        self.ask_to_end()
        self.await_end()

    def ask_to_end(self) -> None:
        if self._process is not None and self.status is None:
            self._process.send_signal(self.stop_signal)

    def await_end(self) -> None:
        """Returns when it is gone; it is killed after `stop_seconds`."""
        if self._process is None:
            return
        try:
            self._process.wait(self.stop_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
