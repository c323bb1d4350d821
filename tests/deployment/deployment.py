"""A whole Forge in a temporary folder, whose processes can be killed one by one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import psycopg
from psycopg import sql

from tests.broker import die_with_parent
from tests.deployment.client import Forge, Runner, wait_for

ROOT = Path(__file__).resolve().parents[2]
# Real periods in the long form; here a silent runner is noticed within seconds. How long it is
# waited for is for templates to say: a machine with much to do takes its time to start a process.
SHORT = {
    "FORGE_HEARTBEAT_SECONDS": "1",
    "FORGE_OFFLINE_SECONDS": "4",
    "FORGE_UNREACHABLE_SECONDS": "120",
    "FORGE_LEASE_SECONDS": "12",
    "FORGE_RECONCILE_SECONDS": "1",
}


class Worker:
    """A runner's worker as a host starts it: an URL, a token, and nothing else."""

    def __init__(
        self,
        url: str,
        runner: Runner,
        folder: Path,
        *,
        python: str,
        cwd: Path,
        options: Sequence[str] = (),
        **variables: str,
    ) -> None:
        self.runner = runner
        self.log = folder / f"{runner.name}.log"
        self._command = [python, "-m", "celery", "-A", "runners.worker", "worker", *options]
        self.python, self.cwd = python, cwd
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "FORGE_URL": url,
            "FORGE_RUNNER_DATA": str(folder / "journals"),
            **variables,
        }
        if not variables.keys() & {"FORGE_RUNNER_TOKEN_FILE", "FORGE_RUNNER_TOKEN"}:
            self._environment["FORGE_RUNNER_TOKEN"] = runner.token
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                cwd=self.cwd,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """QUIT, which ends running tasks too; TERM would let them finish."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.kill()

    def said(self) -> str:
        return self.log.read_text(errors="replace")


def own_database() -> dict[str, str]:
    """Under `tools/on-postgres`, a new database of its server, as the quick start is told of it."""
    if os.environ.get("FORGE_TEST_DATABASE") != "postgres":
        return {}
    server = os.environ["DATABASE_URL"]
    name = f"deployment_{os.getpid()}_{time.monotonic_ns()}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return {"FORGE_QUICKSTART_DATABASE_URL": f"{server.rpartition('/')[0]}/{name}"}


class Deployment:
    """`with Deployment(folder) as forge: …`; `forge.api` is its administrator."""

    def __init__(self, folder: Path, periods: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.data = folder / "data"
        self._periods = SHORT if periods is None else periods
        self._workers: list[Worker] = []
        self._database = own_database()

    def __enter__(self) -> Deployment:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        self._output = self.folder / "quickstart.log"
        command = [sys.executable, "manage.py", "quickstart"]
        command += ["--data", str(self.data), "--port", "0"]
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **self._database, **self._periods},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=die_with_parent,
            )
        wait_for(self._is_up, f"the quick start is up; see {self._output}")
        self.api = Forge(self.place["url"], self.place["api_token"])

    def _is_up(self) -> bool:
        assert self._process.poll() is None, self._output.read_text()
        return "Ctrl-C ends it" in self._output.read_text()

    @property
    def place(self) -> dict[str, Any]:
        """What quickstart.json says now."""
        found: dict[str, Any] = json.loads((self.data / "quickstart.json").read_text())
        return found

    def stop(self) -> None:
        for worker in self._workers:
            worker.end()
        self._process.send_signal(signal.SIGINT)
        self._process.wait(90)

    def kill_quick_start(self) -> None:
        """`kill -9` of the process that all others belong to."""
        self._process.kill()
        self._process.wait()

    def said(self) -> str:
        return self._output.read_text()

    # --- runners ---

    def worker(
        self,
        runner: Runner,
        *,
        python: str = sys.executable,
        cwd: Path = ROOT,
        **variables: str,
    ) -> Worker:
        """Start a worker for `runner` and wait until Forge calls it ready.

        It finds the runner's token in its environment, unless a variable says where else.
        """
        url, folder = self.place["url"], self.folder
        worker = Worker(url, runner, folder, python=python, cwd=cwd, **variables)
        self._workers.append(worker)

        def is_ready() -> bool:
            assert worker.process.poll() is None, worker.said()
            return self.api.status(runner.id) in ("idle", "busy")

        wait_for(is_ready, f"worker of {runner.name} is ready")
        return worker

    # --- faults ---

    def pid(self, role: str) -> int:
        return int(self.place["pids"][role])

    def kill(self, role: str) -> None:
        """`kill -9` one process; the quick start puts another in its place."""
        before = self.pid(role)
        os.kill(before, signal.SIGKILL)
        wait_for(lambda: self.pid(role) != before, f"{role} was started again")

    @contextmanager
    def away(self, *roles: str) -> Iterator[None]:
        """`kill -9` these; nothing takes their place before the end of the block."""
        before = {role: self.pid(role) for role in roles}
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            for pid in before.values():
                os.kill(pid, signal.SIGKILL)
                wait_for(partial(_is_dead, pid), f"{before} are dead")
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)

        def are_back() -> bool:
            return all(self.pid(role) != pid for role, pid in before.items())

        wait_for(are_back, f"{roles} were started again")

    @contextmanager
    def stopped(self, role: str) -> Iterator[None]:
        """It answers nobody, and its connections stand."""
        pid = self.pid(role)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def kill_broker_and_its_data(self) -> None:
        """The quick start is held still meanwhile, so that the old data is not read again."""
        before = self.pid("broker")
        os.kill(self._process.pid, signal.SIGSTOP)
        os.kill(before, signal.SIGKILL)
        wait_for(lambda: _is_dead(before), "the broker is dead")
        for path in (self.data / "broker").glob("append*"):
            shutil.rmtree(path, ignore_errors=True)
        os.kill(self._process.pid, signal.SIGCONT)
        wait_for(lambda: self.pid("broker") != before, "the broker was started again")


def _is_dead(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def processes_with(marker: str) -> list[psutil.Process]:
    """Living processes whose command line or environment holds `marker`."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and (
                any(marker in part for part in process.cmdline())
                or any(marker in text for text in process.environ().values())
            ):
                found.append(process)
        except psutil.Error:
            continue
    return found
