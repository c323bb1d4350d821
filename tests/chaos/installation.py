"""The Forge that is harmed: PostgreSQL, a broker, one web process, two controllers, two workers."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests import broker as real_broker
from tests.chaos.conductor import Conductor
from tests.deployment.client import wait_for
from tests.deployment.deployment import Worker
from tests.deployment.postgres import Postgres
from tests.deployment.production import MANAGE, Production, Service
from tests.deployment.silence import Wire

CONCURRENCY = 4
# A runner is missed within seconds; nothing is given up while a trial's harm is being mended.
PERIODS = {"FORGE_OFFLINE_SECONDS": "4", "FORGE_UNREACHABLE_SECONDS": "120"}


@dataclass
class Host:
    """A runner's host: its worker, and the wire between it and Forge."""

    worker: Worker
    wire: Wire

    @property
    def name(self) -> str:
        return self.worker.runner.name


@dataclass
class Installation:
    """Its parts, by what can happen to them. `database` is None where it runs on SQLite."""

    forge: Production
    conductor: Conductor
    database: Postgres | None
    controllers: list[Service]
    hosts: list[Host]
    project: int
    ledger: Path
    gates: Path

    def leader(self) -> Service:
        """The controller that leads now, as its own output says."""
        found: Service = wait_for(self._find_leader, "a controller leads")
        return found

    def _find_leader(self) -> Service | None:
        leading = [one for one in self.controllers if leads(one)]
        return leading[0] if len(leading) == 1 else None

    def host_of(self, name: str, pid: int) -> Host | None:
        """Whose runner is called `name`, or whose worker is the process `pid`."""
        for host in self.hosts:
            if host.name == name or host.worker.process.pid == pid:
                return host
        return None

    def starts(self) -> list[tuple[int, int, int]]:
        """(task, attempt, pid) of every start in the ledger, in order."""
        found = []
        for line in self.ledger.read_text().splitlines():
            words = line.split()
            if len(words) == 4 and words[2] == "start":
                found.append((int(words[0]), int(words[1]), int(words[3])))
        return found

    def ends(self) -> set[tuple[int, int]]:
        """(task, attempt) of every program that came to its own end."""
        lines = [line.split() for line in self.ledger.read_text().splitlines()]
        return {(int(words[0]), int(words[1])) for words in lines if words[2:] == ["end"]}

    def forget_broker(self) -> None:
        """What a broker without its disk comes back with: nothing."""
        for path in (self.forge.folder / "broker").glob("append*"):
            shutil.rmtree(path, ignore_errors=True)


def leads(controller: Service) -> bool:
    """Whether the last word of this process about the lead was that it has it."""
    said = controller.said_since_start()
    leading = said.rfind("this controller leads")
    return leading >= 0 and leading > said.rfind("another controller leads")


@contextmanager
def installed(folder: Path, *, on_postgres: bool = True) -> Iterator[Installation]:
    """All of it, running, in a folder of its own."""
    with ExitStack() as stack:
        conductor = Conductor(_folder(folder, "failpoints"))
        stack.callback(conductor.close)
        database = Postgres(folder) if on_postgres else None
        if database:
            stack.callback(database.end)
        binary = real_broker.binaries()["valkey"]
        server = {**PERIODS, "FORGE_FAILPOINTS": str(conductor.folder)}
        if database:
            server["DATABASE_URL"] = database.url
        broker = [binary, "--appendonly", "yes", "--appendfsync", "always"]
        forge = Production(folder, broker=broker, server=server)
        wires = [Wire(forge.web_port), Wire(forge.web_port)]
        for wire in wires:
            stack.callback(wire.close)  # after the workers, which say goodbye through them
        stack.enter_context(forge)
        controllers = [forge.controller]
        if database:
            controllers.append(forge.service("controller-2", [*MANAGE, "controller"]))
        project = forge.api.project("chaos")
        hosts = []
        for number, wire in enumerate(wires, 1):
            runner = forge.api.runner(project, f"host-{number}", concurrency=CONCURRENCY)
            variables = {"FORGE_FAILPOINTS": str(conductor.folder), "PATH": _path()}
            hosts.append(Host(forge.worker(runner, url=wire.url, **variables), wire))
        ledger = folder / "ledger"
        ledger.touch()
        gates = _folder(folder, "gates")
        yield Installation(forge, conductor, database, controllers, hosts, project, ledger, gates)


def _folder(parent: Path, name: str) -> Path:
    made = parent / name
    made.mkdir()
    return made


def _path() -> str:
    """Where the interpreters are; the folder of this Python among them."""
    return f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"


def supervisor_of(task: int, program: int) -> psutil.Process | None:
    """The supervisor of a task's program; None if it has ended, and its pid is another's now."""
    try:
        process = psutil.Process(program)
        is_its = process.environ().get("FORGE_TASK_ID") == str(task)
        return process.parent() if is_its else None
    except psutil.Error:
        return None
