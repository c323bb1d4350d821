"""The Forge that is harmed: PostgreSQL, a broker, one web process, two controllers, two workers."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from tests import broker as real_broker
from tests.chaos.conductor import Conductor
from tests.chaos.evidence import LEASE_SECONDS, OFFLINE_SECONDS
from tests.chaos.ledger import Ledger, is_free, lock_of
from tests.deployment.client import wait_for
from tests.deployment.deployment import Worker
from tests.deployment.postgres import Postgres
from tests.deployment.production import MANAGE, Production, Service
from tests.deployment.silence import Wire

CONCURRENCY = 4
# Who ends the processes of tasks, by the names that they give themselves.
WATCHERS = ("forge-supervise", "forge-forkserve")
# A runner is missed within seconds, and leases end in a few more; a template that waits does so for
# longer than it takes to mend any harm.
PERIODS = {
    "FORGE_OFFLINE_SECONDS": str(OFFLINE_SECONDS),
    "FORGE_LEASE_SECONDS": str(LEASE_SECONDS),
    "FORGE_UNREACHABLE_SECONDS": "120",
}


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

    def written(self) -> Ledger:
        """All that the tasks' programs have written down until now."""
        return Ledger.read(self.ledger)

    def last_words(self) -> str:
        """The end of what each part has said, for whoever has to find out what went wrong."""
        services = [self.forge.web, *self.controllers, self.forge.broker]
        logs = [service.log for service in services] + [host.worker.log for host in self.hosts]
        return "\n".join(
            "\n".join([f"--- {log.name}", *log.read_text(errors="replace").splitlines()[-20:]])
            for log in logs
        )

    def latest_rows(self) -> list[dict[str, Any]]:
        """What the API says of the newest tasks, more than a trial has."""
        rows: list[dict[str, Any]] = self.forge.api.get(
            f"projects/{self.project}/tasks/?page_size=200"
        )["results"]
        return rows

    def rows_of(self, templates: Iterable[int]) -> dict[int, dict[str, Any]]:
        """What the API says of all tasks of templates that have at most 200 each."""
        found = {}
        for template in templates:
            path = f"projects/{self.project}/tasks/?template={template}&page_size=200"
            found.update({row["id"]: row for row in self.forge.api.get(path)["results"]})
        return found

    def logs_of(self, rows: Iterable[dict[str, Any]]) -> dict[tuple[int, int], bytes]:
        """The log of each of their attempts, by task and attempt."""
        return {
            (row["id"], one["number"]): self.forge.api.log(row["id"], one["number"])
            for row in rows
            for one in row["attempts"]
        }

    @contextmanager
    def only(self, host: Host) -> Iterator[None]:
        """No other host takes tasks meanwhile."""
        others = [other.worker.runner.id for other in self.hosts if other is not host]
        for other in others:
            self.forge.api.post(f"runners/{other}/pause", reason="This trial wants it.")
        try:
            yield
        finally:
            for other in others:
                self.forge.api.post(f"runners/{other}/resume")

    def last_heard(self, host: Host) -> datetime:
        """When its worker's last heartbeat came, by the clock of this machine."""
        told = self.forge.api.get(f"runners/{host.worker.runner.id}/")["last_heartbeat_at"]
        return datetime.fromisoformat(told)

    def settle(self) -> None:
        """Run one task more for each slot: what had been in the queues was popped before."""
        template = self.forge.api.template(self.project, "true")
        tasks = [
            self.forge.api.run(self.project, template) for _ in range(len(self.hosts) * CONCURRENCY)
        ]
        self.forge.api.finished(tasks)

    def still_alive(self, tasks: Iterable[int]) -> list[int]:
        """Those of which a process holds the lock that their program took, after some patience."""
        left = set(tasks)

        def are_free() -> bool:
            left.difference_update([task for task in left if is_free(lock_of(self.ledger, task))])
            return not left

        with suppress(AssertionError):
            wait_for(are_free, "no process of a task lives", seconds=30)
        return sorted(left)

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


def watchers_of(worker: int) -> list[psutil.Process]:
    """A worker, its fork server, and the supervisors of its tasks."""
    process = psutil.Process(worker)
    found = [process]
    for child in process.children(recursive=True):
        with suppress(psutil.Error):
            if child.name() in WATCHERS:
                found.append(child)
    return found
