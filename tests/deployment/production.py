"""Forge put together by hand, as an operator would: broker, web and controller, each by itself.

For what the quick start does not offer: another broker, TLS in front, a broker address of its own,
several web processes. Nothing here imports Forge.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import requests

from tests.broker import PASSWORD, die_with_parent, free_port
from tests.deployment.client import Forge, Runner, wait_for
from tests.deployment.deployment import ROOT, SHORT, Worker

MANAGE = [sys.executable, "manage.py"]


class Service:
    """One process of the deployment; its output goes to a file."""

    def __init__(
        self, command: list[str], environment: dict[str, str], log: Path, cwd: Path = ROOT
    ) -> None:
        self._command = command
        self._environment = environment
        self._cwd = cwd
        self.log = log
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._before = log.tell()
            self.process = subprocess.Popen(
                self._command,
                cwd=self._cwd,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def said_since_start(self) -> str:
        """What this process has said, and none of those in whose place it was started."""
        return self.log.read_bytes()[self._before :].decode(errors="replace")


class Production:
    """`with Production(folder, broker=…) as forge: …`; `forge.api` is its administrator.

    broker: the command that starts one on `broker_port`, without port and password.
    server: further variables of web and controller; `{broker_port}` in them is filled in.
    has_controller: False leaves it to the test to call `start_controller`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        broker: list[str],
        url: str | None = None,
        server: dict[str, str] | None = None,
        has_controller: bool = True,
    ) -> None:
        self.folder = folder
        self.broker_port = free_port()
        self.web_port = free_port()
        self.broker_url = f"redis://:{PASSWORD}@127.0.0.1:{self.broker_port}/0"
        self.web_url = f"http://127.0.0.1:{self.web_port}"
        self.url = url or self.web_url
        self._broker = broker
        self._server = server or {}
        self._has_controller = has_controller
        self._services: list[Service] = []
        self._workers: list[Worker] = []

    @property
    def environment(self) -> dict[str, str]:
        """What web, controller and `manage.py` find."""
        own = {
            name: text.format(broker_port=self.broker_port) for name, text in self._server.items()
        }
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "DJANGO_SETTINGS_MODULE": "forge.settings",
            "SECRET_KEY": self._secret,
            "DATABASE_URL": f"sqlite:///{self.folder / 'forge.sqlite3'}",
            "REDIS_URL": self.broker_url,
            "FORGE_URL": self.url,
            "PYTHONUNBUFFERED": "1",
            **SHORT,
            **own,
        }

    def __enter__(self) -> Production:
        self._secret = secrets.token_urlsafe(40)
        folder = self.folder / "broker"
        folder.mkdir()
        options = ["--port", str(self.broker_port), "--bind", "127.0.0.1", "--dir", str(folder)]
        options += ["--requirepass", PASSWORD, "--maxmemory-policy", "noeviction", "--save", ""]
        self.broker = self.service("broker", self._broker + options)
        self.manage("migrate", "--verbosity", "0")
        self.password = secrets.token_urlsafe(12)
        known = {"password": self.password}
        self.seeded: dict[str, Any] = json.loads(
            self.manage("quickstart_seed", text=json.dumps(known))
        )
        self.web = self.service("web", [*MANAGE, "web", "--port", str(self.web_port)])
        if self._has_controller:
            self.start_controller()
        self.api = Forge(self.web_url, self.seeded["api_token"])
        wait_for(self._is_up, "web, database and broker answer")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            worker.end()
        for service in reversed(self._services):
            service.end()

    def service(self, name: str, command: list[str]) -> Service:
        service = Service(command, self.environment, self.folder / f"{name}.log")
        self._services.append(service)
        return service

    def start_controller(self) -> None:
        self.controller = self.service("controller", [*MANAGE, "controller"])

    def _is_up(self) -> bool:
        assert self.web.process.poll() is None, self.web.said()
        try:
            return requests.get(f"{self.web_url}/readyz", timeout=5).ok
        except requests.RequestException:
            return False

    def manage(self, *arguments: str, text: str | None = None) -> str:
        """Run one of Forge's commands to its end; returns what it printed."""
        answer = subprocess.run(
            [*MANAGE, *arguments],
            cwd=ROOT,
            env=self.environment,
            input=text,
            capture_output=True,
            text=True,
        )
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    def worker(self, runner: Runner, *, url: str | None = None, **variables: str) -> Worker:
        """Start a worker for `runner` and wait until Forge calls it ready."""
        worker = Worker(
            url or self.url, runner, self.folder, python=sys.executable, cwd=ROOT, **variables
        )
        self._workers.append(worker)

        def is_ready() -> bool:
            assert worker.process.poll() is None, worker.said()
            return self.api.status(runner.id) in ("idle", "busy")

        wait_for(is_ready, f"worker of {runner.name} is ready")
        return worker
