"""What is done to whom. Each harm waits for an event that shows that it was felt, never a time."""

from __future__ import annotations

import os
import random
import signal
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from tests.chaos.conductor import Hold
from tests.chaos.installation import Host, Installation, supervisor_of
from tests.deployment.client import wait_for
from tests.deployment.production import Service


@dataclass
class Damage:
    """What may follow from a harm: the attempts that may be cut short by it."""

    tasks: set[int] = field(default_factory=set)
    runners: set[int] = field(default_factory=set)


class Harm(ABC):
    """One way to harm one victim. `strike` while a process is held, `mend` after its release."""

    victim: str
    way: str
    # Of a second controller, which takes two on a database that both reach, or of PostgreSQL.
    needs_postgres = False

    def __init__(self, place: Installation, chance: random.Random) -> None:
        self.place = place
        self.chance = chance
        self.damage = Damage()

    def prepare(self, hold: Hold) -> bool:
        """Choose whom to strike; False where there is nobody."""
        return True

    @abstractmethod
    def strike(self, hold: Hold) -> None:
        """Do it, and return when it is done."""

    @abstractmethod
    def mend(self) -> None:
        """Wait until it was felt, and bring back what is gone."""


class OfHost(Harm):
    victim = "worker"

    def prepare(self, hold: Hold) -> bool:
        found = self.place.host_of(hold.runner, hold.pid)
        self.host: Host = found or self.chance.choice(self.place.hosts)
        return True

    def await_missed(self) -> None:
        self.place.forge.api.await_status(self.host.worker.runner.id, "offline")


class KillWorker(OfHost):
    way = "kill -9"

    def strike(self, hold: Hold) -> None:
        self.host.worker.kill()
        self.damage.runners.add(self.host.worker.runner.id)

    def mend(self) -> None:
        self.host.worker.start()


class StopWorker(OfHost):
    way = "SIGSTOP"

    def strike(self, hold: Hold) -> None:
        self.host.worker.process.send_signal(signal.SIGSTOP)

    def mend(self) -> None:
        self.await_missed()
        self.host.worker.process.send_signal(signal.SIGCONT)


class CutWorker(OfHost):
    way = "cut off"

    def strike(self, hold: Hold) -> None:
        self.host.wire.cut()

    def mend(self) -> None:
        self.await_missed()
        self.host.wire.mend()


class OfProgram(Harm):
    """Strikes at one of the tasks that run: that of the hold if it does, or any."""

    def prepare(self, hold: Hold) -> bool:
        started = [
            start for start in self.place.starts() if supervisor_of(start[0], start[2]) is not None
        ]
        own = [start for start in started if start[:2] == (hold.task, hold.attempt)]
        if not started:
            return False
        self.task, _, self.program = (own or [self.chance.choice(started)])[0]
        return True

    def mend(self) -> None:
        wait_for(lambda: not supervisor_of(self.task, self.program), "the program is gone")


class KillSupervisor(OfProgram):
    victim = "supervisor"
    way = "kill -9"

    def strike(self, hold: Hold) -> None:
        supervisor = supervisor_of(self.task, self.program)
        if supervisor is not None:
            supervisor.kill()
        self.damage.tasks.add(self.task)


class KillProgram(OfProgram):
    victim = "task process"
    way = "kill -9"

    def strike(self, hold: Hold) -> None:
        _signal(self.program, signal.SIGKILL)
        self.damage.tasks.add(self.task)


class StopProgram(OfProgram):
    victim = "task process"
    way = "SIGSTOP"

    def strike(self, hold: Hold) -> None:
        _signal(self.program, signal.SIGSTOP)

    def mend(self) -> None:
        _signal(self.program, signal.SIGCONT)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it came to its end in this very moment


class OfService(Harm):
    """A process of the server."""

    @abstractmethod
    def service(self) -> Service: ...

    def prepare(self, hold: Hold) -> bool:
        self.struck = self.service()
        return True


class Killed(OfService):
    way = "kill -9"

    def strike(self, hold: Hold) -> None:
        self.struck.kill()

    def mend(self) -> None:
        self.struck.start()


class Stopped(OfService):
    way = "SIGSTOP"

    def strike(self, hold: Hold) -> None:
        self._heard = [len(one.said()) for one in self.witnesses()]
        self.struck.process.send_signal(signal.SIGSTOP)

    def mend(self) -> None:
        wait_for(self._is_felt, f"the stopped {self.victim} is missed")
        self.struck.process.send_signal(signal.SIGCONT)

    def _is_felt(self) -> bool:
        pairs = zip(self.witnesses(), self._heard, strict=True)
        return any(self.words in one.said()[length:] for one, length in pairs)

    words: str

    @abstractmethod
    def witnesses(self) -> list[Service]: ...


class OfWeb(OfService):
    victim = "web"

    def service(self) -> Service:
        return self.place.forge.web


class KillWeb(OfWeb, Killed):
    pass


class StopWeb(OfWeb):
    """Its runners notice when an answer does not come, or it is awake again before that."""

    way = "SIGSTOP"

    def strike(self, hold: Hold) -> None:
        self._heard = [len(host.worker.said()) for host in self.place.hosts]
        self.struck.process.send_signal(signal.SIGSTOP)

    def mend(self) -> None:
        pairs = list(zip(self.place.hosts, self._heard, strict=True))
        wait_for(
            lambda: any("wait here" in host.worker.said()[length:] for host, length in pairs),
            "a worker misses the web process",
        )
        self.struck.process.send_signal(signal.SIGCONT)


class OfController(OfService):
    victim = "controller"

    def service(self) -> Service:
        return self.place.leader()


class KillController(OfController, Killed):
    pass


class StopController(OfController, Stopped):
    needs_postgres = True
    words = "this controller leads"

    def witnesses(self) -> list[Service]:
        return [one for one in self.place.controllers if one is not self.struck]


class OfBroker(OfService):
    victim = "broker"

    def service(self) -> Service:
        return self.place.forge.broker


class KillBroker(OfBroker, Killed):
    pass


class EmptyBroker(OfBroker, Killed):
    way = "kill -9, data lost"

    def mend(self) -> None:
        self.place.forget_broker()
        self.struck.start()


class StopBroker(OfBroker, Stopped):
    words = "trying again"

    def witnesses(self) -> list[Service]:
        return self.place.controllers


class OfDatabase(Harm):
    victim = "PostgreSQL"
    needs_postgres = True


class KillDatabase(OfDatabase):
    way = "kill -9"

    def strike(self, hold: Hold) -> None:
        assert self.place.database is not None
        self.place.database.kill()

    def mend(self) -> None:
        assert self.place.database is not None
        self.place.database.start()


class StopDatabase(OfDatabase):
    """Every process of it; missed when the standby cannot even ask who leads."""

    way = "SIGSTOP"

    def strike(self, hold: Hold) -> None:
        assert self.place.database is not None
        self._stopped = self.place.database.suspend()
        self._heard = [len(host.worker.said()) for host in self.place.hosts]

    def mend(self) -> None:
        pairs = list(zip(self.place.hosts, self._heard, strict=True))
        wait_for(
            lambda: any("wait here" in host.worker.said()[length:] for host, length in pairs),
            "a worker misses Forge's answers",
        )
        assert self.place.database is not None
        self.place.database.resume(self._stopped)


HARMS: tuple[type[Harm], ...] = (
    KillWorker,
    StopWorker,
    CutWorker,
    KillSupervisor,
    KillProgram,
    StopProgram,
    KillWeb,
    StopWeb,
    KillController,
    StopController,
    KillBroker,
    EmptyBroker,
    StopBroker,
    KillDatabase,
    StopDatabase,
)
