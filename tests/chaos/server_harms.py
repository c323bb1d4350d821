"""What is done to the server's processes: web, controller, broker, PostgreSQL."""

from __future__ import annotations

import signal
from abc import abstractmethod

from tests.chaos.conductor import Hold
from tests.chaos.harms import Harm
from tests.chaos.installation import Host
from tests.deployment.client import wait_for
from tests.deployment.production import Service


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

    def silenced(self) -> list[Host]:
        return self.place.hosts

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

    def silenced(self) -> list[Host]:
        return self.place.hosts


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
