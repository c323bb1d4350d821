"""Brings up broker, web, controller, Flower and one runner; watches them; takes them down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import redis

from forge.quickstart import broker, ports
from forge.quickstart.api import Api
from forge.quickstart.data_folder import PLACE, SECRETS, DataFolder
from forge.quickstart.errors import QuickStartError
from forge.quickstart.processes import ROOT, Process, die_with
from forge.quickstart.terminal import HarmlessText

WATCH_SECONDS = 0.3
CONFIGURATION_ERROR = 2
# Instead of a file in the data folder; not DATABASE_URL, which may be exported for something else.
DATABASE = "FORGE_QUICKSTART_DATABASE_URL"
# What a process may take over from whoever typed the command.
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER", "LOGNAME")

Say = Callable[[str], None]


class QuickStart:
    """`up` brings everything up, `watch` keeps it up until `close`, `down` ends it."""

    def __init__(self, folder: DataFolder, *, host: str, port: int, is_given: bool, say: Say):
        self._folder = folder
        self._host = host
        self._port = (port, is_given)
        self._say = say
        self._is_closing = threading.Event()
        self._processes: list[Process] = []
        self.is_up = False

    def up(self) -> None:
        """Raises QuickStartError, with the end of the log of what did not come up."""
        self._folder.open()
        self._secrets = self._folder.secrets()
        self._choose_addresses()
        self._start_broker()
        self._manage("migrate", "--verbosity", "0")
        self._seed()
        self._start_server()
        self._start_runner()
        self._publish_place()
        self.is_up = True

    def _choose_addresses(self) -> None:
        port, is_given = self._port
        self.port = ports.choose(self._host, port, is_given=is_given)
        if port not in (0, self.port):
            self._say(f"Port {port} is taken; using {self.port}.")
        self.url = f"http://{self._host}:{self.port}"
        flower = 5555 if port else 0
        self._flower_port = ports.choose("127.0.0.1", flower, is_given=False)
        self.flower_url = f"http://127.0.0.1:{self._flower_port}"
        self._broker_port = ports.any_free()
        place = f"127.0.0.1:{self._broker_port}/0"
        self.broker_url = f"redis://:{self._secrets['broker_password']}@{place}"

    # --- processes ---

    def _base(self) -> dict[str, str]:
        return {name: os.environ[name] for name in PASSED_ON if name in os.environ}

    def _server_environment(self) -> dict[str, str]:
        file = self._folder.path / "forge.sqlite3"
        return {
            **self._base(),
            "DJANGO_SETTINGS_MODULE": "forge.settings",
            "SECRET_KEY": self._secrets["secret_key"],
            "FORGE_SECRETS_KEY": self._secrets["secrets_key"],
            "FORGE_SECRETS_KEY_FALLBACKS": self._secrets.get("secrets_key_fallbacks", ""),
            "DATABASE_URL": os.environ.get(DATABASE, f"sqlite:///{file}"),
            "REDIS_URL": self.broker_url,
            "FORGE_URL": self.url,
            "ALLOWED_HOSTS": f"{self._host},127.0.0.1,localhost",
            "PYTHONUNBUFFERED": "1",
            **{name: text for name, text in os.environ.items() if _is_period(name)},
        }

    def _start(self, role: str, *command: str, environment: dict[str, str]) -> Process:
        process = Process(role, command, environment, self._folder.log(role))
        self._processes.append(process)
        process.start()
        return process

    def _start_broker(self) -> None:
        folder = self._folder.path / "broker"
        server = broker.find_server(folder)
        password = self._secrets["broker_password"]
        configuration = broker.write_configuration(
            folder, port=self._broker_port, password=password
        )
        process = self._start("broker", str(server), str(configuration), environment=self._base())
        process.await_ready(self._broker_answers)

    def _broker_answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.broker_url, socket_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def _manage(self, *arguments: str, text: str | None = None) -> str:
        """Run one of Forge's own commands to its end; returns what it printed."""
        answer = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self._server_environment(),
            input=text,
            capture_output=True,
            text=True,
            preexec_fn=die_with(os.getpid()),
        )
        if answer.returncode:
            detail = answer.stderr.strip().splitlines()[-1:] or ["no message"]
            raise QuickStartError(f"manage.py {arguments[0]} failed: {detail[0]}")
        return answer.stdout

    def _seed(self) -> None:
        """Secrets travel over standard input: a command line is for everybody to read."""
        found = json.loads(self._manage("quickstart_seed", text=json.dumps(self._secrets)))
        self.seeded: dict[str, Any] = found
        kept = {name: found[name] for name in ("api_token", "runner_token")}
        self._folder.write(SECRETS, {**self._secrets, **kept})
        self.api = Api(self.url, found["api_token"])

    def _start_server(self) -> None:
        environment = self._server_environment()
        address = ("--host", self._host, "--port", str(self.port))
        web = self._start(
            "web", sys.executable, "manage.py", "web", *address, environment=environment
        )
        self._start(
            "controller", sys.executable, "manage.py", "controller", environment=environment
        )
        sign_in = f"{self.seeded['username']}:{self.seeded['password']}"
        flower = (sys.executable, "-m", "celery", "-A", "forge", "flower", "--address=127.0.0.1")
        flower_environment = {**environment, "FLOWER_BASIC_AUTH": sign_in}
        self._start(
            "flower", *flower, f"--port={self._flower_port}", environment=flower_environment
        )
        web.await_ready(self.api.is_up)

    def _start_runner(self) -> None:
        """As on any host: it holds a URL and a token, and a folder for its journal."""
        environment = {
            **self._base(),
            "FORGE_URL": self.url,
            "FORGE_RUNNER_TOKEN": self.seeded["runner_token"],
            "FORGE_RUNNER_DATA": str(self._folder.path / "runner"),
        }
        command = (sys.executable, "-m", "celery", "-A", "runners.worker", "worker")
        runner = self._start("runner", *command, "--loglevel", "INFO", environment=environment)
        runner.stop_signal = signal.SIGQUIT  # TERM would wait for its tasks
        runner.stop_seconds = 25.0
        runner.await_ready(lambda: self.api.is_runner_ready(self.seeded["runner_id"]))

    def _publish_place(self) -> None:
        place = {
            "url": self.url,
            "username": self.seeded["username"],
            "password": self.seeded["password"],
            "api_token": self.seeded["api_token"],
            "broker_url": self.broker_url,
            "project_id": self.seeded["project_id"],
            "runner_id": self.seeded["runner_id"],
            "runner_token": self.seeded["runner_token"],
            "flower_url": self.flower_url,
            "pids": {process.role: process.pid for process in self._processes},
        }
        self._folder.write(PLACE, place)

    # --- tasks ---

    def run_template(
        self, template_id: int, show: Callable[[str], None], *, has_colours: bool
    ) -> dict[str, Any]:
        """Run one template, show its log as it comes, and return the finished task."""
        task_id = self.api.run(self.seeded["project_id"], template_id)
        log = HarmlessText(has_colours=has_colours)
        for piece in self.api.follow(task_id):
            show(log.feed(piece))
        show(log.end())
        task: dict[str, Any] = self.api.get(f"tasks/{task_id}/")
        return task

    # --- life ---

    def watch(self) -> None:
        """Start again what dies, until `close`."""
        while not self._is_closing.wait(WATCH_SECONDS):
            for process in self._processes:
                self._look_after(process)

    def _look_after(self, process: Process) -> None:
        if process.status is None or process.is_given_up:
            return
        how = process.how_it_ended()
        if process.role == "runner" and process.status == CONFIGURATION_ERROR:
            process.is_given_up = True
            self._say(f"{how} and is not started again.{process.tail()}")
        elif process.revive():
            self._say(f"{how}; started again.")
            self._publish_place()

    def close(self) -> None:
        self._is_closing.set()

    def down(self) -> None:
        """End everything: the runner first, so that its results still find Forge.

        The broker last, so that nobody misses it; the others at the same time.
        """
        for roles in (("runner",), ("flower", "web", "controller"), ("broker",)):
            ending = [process for process in self._processes if process.role in roles]
            for process in ending:
                process.ask_to_end()
            for process in ending:
                process.await_end()
        self._folder.close()


def _is_period(name: str) -> bool:
    """Periods, rates and what is kept of logs may be set from outside: tests lower them."""
    is_rate = name.endswith(("_SECONDS", "_PER_SECOND"))
    return name.startswith("FORGE_") and (is_rate or name.startswith("FORGE_LOG_"))
