"""What is done to whom. Each harm waits for an event that shows that it was felt, never a time."""

from __future__ import annotations

import os
import random
import signal
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import psutil

from tests.chaos.conductor import WITH_PROGRAM, Hold
from tests.chaos.damage import Damage
from tests.chaos.installation import WATCHERS, Host, Installation, supervisor_of, watchers_of
from tests.deployment.client import wait_for
from tests.frozen import freeze


class Harm(ABC):
    """One way to harm one victim. `strike` while a process is held, `mend` after its release."""

    victim: str
    way: str
    # Of a second controller, which takes two on a database that both reach, or of PostgreSQL.
    needs_postgres = False
    # Lasts until leases have ended: tasks of every policy run on every host when it strikes.
    outlasts_leases = False
    # Of the programs that wait at their gates, all that ends them is killed, and a child of theirs
    # without anything of Forge's about it is not: they run on every host when it strikes.
    leaves_children = False
    # No program comes to its end before it is mended, unless the trial waits for one that does.
    keeps_gates_shut = False

    def __init__(self, place: Installation, chance: random.Random) -> None:
        self.place = place
        self.chance = chance
        self.damage = Damage()
        # The tasks that run, and whose gates stay shut until it is mended.
        self.gated: list[int] = []
        # Whether the task that is held has no such part where it stands, and another one's is
        # struck: at the same moment then, and not at the same place.
        self.is_beside = False

    def prepare(self, hold: Hold) -> bool:
        """Choose whom to strike; False where there is nobody."""
        return True

    @abstractmethod
    def strike(self, hold: Hold) -> None:
        """Do it, and return when it is done."""

    @abstractmethod
    def mend(self) -> None:
        """Wait until it was felt, and bring back what is gone."""

    def silenced(self) -> list[Host]:
        """Those between whom and Forge nothing passes from the blow until it is mended."""
        return []


class OfHost(Harm):
    victim = "worker"

    def prepare(self, hold: Hold) -> bool:
        found = self.place.host_of(hold.runner, hold.pid)
        self.is_beside = found is None
        self.host: Host = found or self.chance.choice(self.place.hosts)
        return True

    def await_missed(self) -> None:
        self.place.forge.api.await_status(self.host.worker.runner.id, "offline")


class KillWorker(OfHost):
    way = "kill -9"

    def strike(self, hold: Hold) -> None:
        self.damage.workers[self.host.worker.runner.id] = self.host.worker.process.pid
        self.host.worker.kill()

    def mend(self) -> None:
        self.host.worker.start()


class KillAll(OfHost):
    """As `pkill -9` of all that runs as Forge: nobody is left who ends the tasks' processes."""

    victim = "worker, fork server, supervisor"
    way = "kill -9"
    leaves_children = True

    def prepare(self, hold: Hold) -> bool:
        super().prepare(hold)
        runner = self.host.worker.runner.id
        self._cut = {
            row["id"]: row["attempt"]
            for row in self.place.latest_rows()
            if row["runner"] == runner and row["id"] in self.gated and row["state"] == "running"
        }
        return bool(self._cut)

    def strike(self, hold: Hold) -> None:
        worker = self.host.worker
        self.damage.workers[worker.runner.id] = worker.process.pid
        self.damage.unwatched.add(worker.runner.id)
        # None of them may see another one die, or start what is not seen here.
        victims: list[psutil.Process] = []
        while new := [one for one in watchers_of(worker.process.pid) if one not in victims]:
            for one in new:
                with suppress(psutil.NoSuchProcess):  # its task has just ended
                    freeze(one)
            victims += new
        self.chance.shuffle(victims)
        for one in victims:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        worker.kill()
        psutil.wait_procs(victims)

    def mend(self) -> None:
        self.host.worker.start()
        wait_for(self._is_over, "what was cut short has ended, or runs again")

    def _is_over(self) -> bool:
        known = {row["id"]: row for row in self.place.latest_rows()}
        started = {(task, attempt) for task, attempt, _ in self.place.written().starts}
        return all(
            known[task]["finished_at"]
            or (known[task]["attempt"] > attempt and (task, known[task]["attempt"]) in started)
            for task, attempt in self._cut.items()
        )


class Silenced(OfHost):
    def silenced(self) -> list[Host]:
        return [self.host]


class StopWorker(Silenced):
    way = "SIGSTOP"

    def strike(self, hold: Hold) -> None:
        self.host.worker.process.send_signal(signal.SIGSTOP)

    def mend(self) -> None:
        self.await_missed()
        self.host.worker.process.send_signal(signal.SIGCONT)


class CutWorker(Silenced):
    way = "cut off"

    def strike(self, hold: Hold) -> None:
        self.host.wire.cut()

    def mend(self) -> None:
        self.await_missed()
        self.host.wire.mend()


class PastLease(Silenced):
    """Until the policy of each task of that host has decided, and another attempt runs."""

    outlasts_leases = True

    def prepare(self, hold: Hold) -> bool:
        super().prepare(hold)
        self._fenced = {
            row["id"]
            for row in self.place.latest_rows()
            if row["runner"] == self.host.worker.runner.id
            and row["lost_runner_policy"] == "retry"
            and row["state"] == "running"
        }
        return bool(self._fenced)

    def await_decisions(self) -> None:
        wait_for(self._are_decided, "every policy has decided")

    def _are_decided(self) -> bool:
        runner, started = self.host.worker.runner.id, self.place.written().starts
        return are_decided(runner, self._fenced, self.place.latest_rows(), started)


def are_decided(
    runner: int,
    fenced: Iterable[int],
    rows: Iterable[dict[str, Any]],
    starts: Iterable[tuple[int, int, int]],
) -> bool:
    """Whether the policies have decided about all that `runner` had when it fell silent.

    fenced: those of it that may be run again, one at least with its gate shut. rows: what the API
    says of the newest tasks. starts: as in the ledger.
    """
    known = {row["id"]: row for row in rows}
    # The result of one of them was on its way.
    left = {task for task in fenced if not known[task]["finished_at"]}
    # Not all of them: the first one whose gate is shut may fill the last slot that there is, and
    # what has none comes when the gates open.
    is_again = not left or any(task in left and attempt > 1 for task, attempt, _ in starts)
    held = [row for row in known.values() if row["runner"] == runner and not row["finished_at"]]
    return (
        is_again
        and all(known[task]["attempt"] > 1 for task in left)
        and all(
            (row["state"], row["lost_runner_policy"]) == ("unreachable", "wait") for row in held
        )
    )


class StopWorkerPastLease(PastLease):
    way = "SIGSTOP past the lease"

    def strike(self, hold: Hold) -> None:
        self.host.worker.process.send_signal(signal.SIGSTOP)

    def mend(self) -> None:
        self.await_decisions()
        self.host.worker.process.send_signal(signal.SIGCONT)


class CutWorkerPastLease(PastLease):
    way = "cut off past the lease"

    def strike(self, hold: Hold) -> None:
        self.host.wire.cut()

    def mend(self) -> None:
        self.await_decisions()
        self.host.wire.mend()


class OfProgram(Harm):
    """Strikes at one of the tasks that run: that of the hold if it does, or any.

    That of the hold waits at its gate, if it has started: it would have ended else.
    """

    keeps_gates_shut = True

    def prepare(self, hold: Hold) -> bool:
        if hold.place in WITH_PROGRAM:
            # Its program was started just now, and may not have come to say so.
            with suppress(AssertionError):
                wait_for(lambda: self._has_started(hold), "the program that is held has started")
        starts = self.place.written().starts
        # In one order, whichever of them was quicker to write: the seed is to choose the same.
        started = sorted(one for one in starts if supervisor_of(one[0], one[2]) is not None)
        own = [start for start in started if start[:2] == (hold.task, hold.attempt)]
        if not started:
            return False
        self.is_beside = not own
        self.task, attempt, self.program = (own or [self.chance.choice(started)])[0]
        self.key = self.task, attempt
        return True

    def _has_started(self, hold: Hold) -> bool:
        starts = self.place.written().starts
        return any(start[:2] == (hold.task, hold.attempt) for start in starts)

    def mend(self) -> None:
        wait_for(lambda: not supervisor_of(self.task, self.program), "the program is gone")


class KillSupervisor(OfProgram):
    victim = "supervisor"
    way = "kill -9"

    def strike(self, hold: Hold) -> None:
        supervisor = supervisor_of(self.task, self.program)
        with suppress(psutil.NoSuchProcess):  # its program may end by itself in this moment
            if supervisor is not None:
                supervisor.kill()
        self.damage.cut.add(self.key)


class KillSupervisorAndServer(OfProgram):
    """Its fork server too: of those that end a program, only the worker is left."""

    victim = "supervisor, fork server"
    way = "kill -9"

    def strike(self, hold: Hold) -> None:
        supervisor = supervisor_of(self.task, self.program)
        server = None
        with suppress(psutil.NoSuchProcess):  # its program may end by itself in this moment
            server = supervisor.parent() if supervisor is not None else None
        victims = [one for one in (supervisor, server) if one is not None]
        self.chance.shuffle(victims)
        for victim in victims:
            # The parent is the worker where another trial has killed the server before.
            with suppress(psutil.NoSuchProcess):
                if victim.name() in WATCHERS:
                    victim.kill()
        self.damage.cut.add(self.key)


class KillProgram(OfProgram):
    victim = "task process"
    way = "kill -9"

    def strike(self, hold: Hold) -> None:
        _signal(self.program, signal.SIGKILL)
        self.damage.killed.add(self.key)


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


class AskStop(Harm):
    """A person asks it of the task that is held, and of one that runs.

    Neither comes to its end by itself, unless it is held for that: so a stop that is ignored shows.
    """

    victim = "task"
    way = "stop asked for"
    action = "stop"
    keeps_gates_shut = True

    def prepare(self, hold: Hold) -> bool:
        self._tasks = {hold.task, self.chance.choice(self.gated)}
        return True

    def strike(self, hold: Hold) -> None:
        self.damage.done = {task for task, _ in self.place.written().ends} & self._tasks
        for task in sorted(self._tasks):
            answer = self.place.forge.api.send("POST", f"tasks/{task}/{self.action}")
            self.damage.asked[task] = answer.json()["state"] if answer.ok else self._refused(task)

    def _refused(self, task: int) -> str:
        """Empty where there was nothing left to be stopped."""
        return "" if self.place.forge.api.task(task)["finished_at"] else "refused"

    def mend(self) -> None:
        for task in self.damage.asked:
            # One that does not end is found when its gate is open and all are judged.
            with suppress(AssertionError):
                self.place.forge.api.wait_until(task)


class AskForceStop(AskStop):
    way = "force stop asked for"
    action = "force-stop"
