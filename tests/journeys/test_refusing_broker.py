"""A broker that answers with errors: a failover, full memory, replicas that are missing."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import redis

from tests import broker as real_broker
from tests.deployment.client import Runner, wait_for
from tests.deployment.deployment import ROOT, Worker
from tests.deployment.production import Production
from tests.frozen import freeze

GATED = "echo begun; while [ ! -e {gate} ]; do sleep 0.05; done; echo done"
REFUSES = "The broker refuses to serve this runner ("
WAITS = "so this worker waits for it"
MISSING = "The broker does not know this runner's account yet."
# At a signal the event loop meets an error, as it would on a host that has no memory left.
# Elsewhere than in its wait for something to do, somebody might catch it.
HARM = """
import os, signal, threading

def harm(number, frame):
    if frame is not None and frame.f_code.co_name == "poll":
        raise MemoryError
    threading.Timer(0.05, os.kill, (os.getpid(), number)).start()

signal.signal(signal.SIGRTMIN, harm)
"""
# Both kinds of server answer alike; the long form shows it.
SERVERS = ["valkey", "redis"] if os.environ.get("FORGE_LONG") else ["valkey"]


@pytest.fixture(scope="module", params=SERVERS)
def forge(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Production]:
    server = real_broker.binaries().get(request.param)
    if server is None:
        if request.param in real_broker.required():
            pytest.fail(f"{request.param} is required and not installed")
        pytest.skip(f"no {request.param} on this machine")
    with Production(tmp_path_factory.mktemp("forge"), broker=[server]) as production:
        yield production


@contextmanager
def without_a_controller(forge: Production) -> Iterator[None]:
    """It is stopped, and not in the middle of a write, for which all others would wait."""
    pid = forge.controller.process.pid

    def stop() -> bool:
        freeze(psutil.Process(pid))
        with closing(sqlite3.connect(forge.folder / "forge.sqlite3", timeout=1)) as database:
            try:
                database.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                os.kill(pid, signal.SIGCONT)
                return False
        return True

    wait_for(stop, "the controller is stopped between two writes")
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def admin(forge: Production) -> Iterator[redis.Redis]:
    """The broker as its administrator sees it."""
    with redis.Redis.from_url(forge.broker_url) as client:
        yield client


@dataclass(frozen=True)
class Refusal:
    """How a broker comes to refuse, what cures it, and what it says meanwhile."""

    harm: tuple[str, ...]
    cure: tuple[str, ...]
    words: str

    @contextmanager
    def lasting(self, admin: redis.Redis) -> Iterator[None]:
        admin.execute_command(*self.harm)  # type: ignore[no-untyped-call]
        try:
            for account in map(str, admin.acl_users()):
                if account.startswith("runner-"):
                    # A worker that asks for nothing new may not come to know of it.
                    admin.execute_command("CLIENT", "KILL", "USER", account)  # type: ignore[no-untyped-call]
            yield
        finally:
            admin.execute_command(*self.cure)  # type: ignore[no-untyped-call]


REFUSALS = {
    "it became a replica": Refusal(
        ("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE"), "read only replica"
    ),
    "its memory is full": Refusal(
        ("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0"), "used memory"
    ),
    "its replicas are missing": Refusal(
        ("CONFIG", "SET", "min-replicas-to-write", "1"),
        ("CONFIG", "SET", "min-replicas-to-write", "0"),
        "Not enough good replicas",
    ),
}


def explains(forge: Production, task: int, runner: Runner, words: str) -> Callable[[], bool]:
    def look() -> bool:
        waiting = forge.api.task(task)["waiting_for"]
        ill = f"{runner.name}, the only runner that may take it, cannot take tasks"
        return ill in waiting and words in waiting

    return look


@pytest.mark.parametrize("why", REFUSALS)
def test_workers_outlive_a_broker_that_refuses(
    why: str, forge: Production, admin: redis.Redis, tmp_path: Path
) -> None:
    """One that is idle and one that runs a task: neither ends, and each says what keeps it."""
    refusal, gate = REFUSALS[why], tmp_path / "gate"
    project = forge.api.project(why)
    names = [f"{kind}-{len(why)}" for kind in ("idle", "busy")]
    runners = [forge.api.runner(project, name, tags=[name]) for name in names]
    workers = [forge.worker(runner) for runner in runners]
    pids = [worker.process.pid for worker in workers]
    running = forge.api.run_script(project, GATED.format(gate=gate), tags=[names[1]])
    forge.api.await_output(running, b"begun")
    with refusal.lasting(admin):
        wait_for(lambda: all(REFUSES in one.said() for one in workers), "they say what they heard")
        waiting = [forge.api.run_script(project, "echo after", tags=[name]) for name in names]
        for runner, task in zip(runners, waiting, strict=True):
            forge.api.await_status(runner.id, "unhealthy")
            assert refusal.words in forge.api.get(f"runners/{runner.id}/")["trouble"]
            wait_for(explains(forge, task, runner, refusal.words), "the waiting task says it too")
        gate.touch()
        assert forge.api.wait_until(running)["state"] == "succeeded"
    assert {task["state"] for task in forge.api.finished(waiting)} == {"succeeded"}
    assert forge.api.log(running) == b"begun\ndone\n"
    for runner, worker, pid in zip(runners, workers, pids, strict=True):
        forge.api.await_status(runner.id, "idle")
        said = worker.said()
        assert "The broker answers again." in said and "Traceback" not in said
        assert refusal.words in said and said.count(REFUSES) <= 2
        assert (worker.process.poll(), worker.process.pid) == (None, pid)


def test_a_worker_that_starts_meanwhile_waits_if_it_worked_here_before(
    forge: Production, admin: redis.Redis
) -> None:
    refusal, project = REFUSALS["its memory is full"], forge.seeded["project_id"]
    worker = forge.worker(forge.api.runner(project, "again-1", tags=["again"]))
    worker.end()
    with refusal.lasting(admin):
        worker.start()
        wait_for(lambda: WAITS in worker.said(), WAITS)
        assert refusal.words in worker.said()
    task = forge.api.run_script(project, "echo here", tags=["again"])
    assert forge.api.wait_until(task)["state"] == "succeeded"
    assert "Traceback" not in worker.said()


def test_a_first_start_meanwhile_is_one_line_with_what_the_broker_says(
    forge: Production, admin: redis.Redis, tmp_path: Path
) -> None:
    runner = forge.api.runner(forge.seeded["project_id"], "first-1")
    wait_for(lambda: f"runner-{runner.id}" in map(str, admin.acl_users()), "it has its account")
    refusal = REFUSALS["its replicas are missing"]
    with refusal.lasting(admin):
        worker = Worker(forge.url, runner, tmp_path, python=sys.executable, cwd=ROOT)
        assert worker.process.wait(90) == 2
    (line,) = worker.said().splitlines()
    assert line.startswith("forge: The broker refuses to serve this runner (")
    assert refusal.words in line


def test_a_broker_without_room_for_connections_is_no_missing_account(
    forge: Production, admin: redis.Redis
) -> None:
    project = forge.api.project("Crowded")
    runner = forge.api.runner(project, "crowded-1")
    worker = forge.worker(runner)
    crowded = Refusal(
        ("CONFIG", "SET", "maxclients", "1"), ("CONFIG", "SET", "maxclients", "9999"), ""
    )
    answer = "The broker refuses: ERR max number of clients reached."
    with crowded.lasting(admin):
        wait_for(lambda: answer in worker.said(), "it says what the broker answers")
    task = forge.api.run_script(project, "echo here")
    assert forge.api.wait_until(task)["state"] == "succeeded"
    assert MISSING not in worker.said()


def test_an_account_that_is_missing_is_called_that(forge: Production, admin: redis.Redis) -> None:
    project = forge.api.project("Unknown")
    runner = forge.api.runner(project, "unknown-1")
    worker = forge.worker(runner)
    with without_a_controller(forge):
        # Its connections end with it.
        admin.execute_command("ACL", "DELUSER", f"runner-{runner.id}")  # type: ignore[no-untyped-call]
        wait_for(lambda: MISSING in worker.said(), "it says that its account is missing")
        task = forge.api.run_script(project, "echo here")
        forge.api.await_status(runner.id, "unhealthy")

        def names_the_controller() -> bool:
            return "gives the broker back the accounts" in forge.api.task(task)["waiting_for"]

        wait_for(names_the_controller, "what waits says that a controller is needed")
        assert forge.api.task(task)["waiting_for"].startswith("No controller runs since ")
    assert forge.api.wait_until(task)["state"] == "succeeded"
    assert "The broker refuses: " not in worker.said()


def test_a_broker_that_falls_silent_is_told_to_its_end(forge: Production) -> None:
    """Also where Celery does not come to know of it."""
    project = forge.api.project("Silent")
    worker = forge.worker(forge.api.runner(project, "silent-1"))
    heard = forge.api.run_script(project, "true")
    assert forge.api.wait_until(heard)["state"] == "succeeded"
    refused, again = "The broker tunnel ws://", "The broker tunnel stands again."
    os.kill(forge.broker.process.pid, signal.SIGSTOP)
    try:
        wait_for(lambda: refused in worker.said(), "it says that the tunnel is refused")
    finally:
        os.kill(forge.broker.process.pid, signal.SIGCONT)
    wait_for(
        lambda: worker.said().rfind(again) > worker.said().rfind(refused), "and that it is not"
    )
    task = forge.api.run_script(project, "echo here")
    assert forge.api.wait_until(task)["state"] == "succeeded"
    said = worker.said()
    assert said.count(again) <= said.count(refused)
    assert "Redis" not in said


def test_a_first_start_waits_for_an_account_that_is_missing(
    forge: Production, admin: redis.Redis, tmp_path: Path
) -> None:
    """As after a restart of the broker: neither the address nor the token is wrong."""
    project = forge.api.project("Newcomers")
    runner = forge.api.runner(project, "newcomer-1")
    account = f"runner-{runner.id}"
    wait_for(lambda: account in map(str, admin.acl_users()), "it has its account")
    with without_a_controller(forge):
        admin.execute_command("ACL", "DELUSER", account)  # type: ignore[no-untyped-call]
        worker = Worker(forge.url, runner, tmp_path, python=sys.executable, cwd=ROOT)
        wait_for(lambda: WAITS in worker.said(), WAITS)
        (line,) = worker.said().splitlines()
        assert MISSING in line and "Forge accepts the token" in line
        forge.api.await_status(runner.id, "unhealthy")
        trouble = forge.api.get(f"runners/{runner.id}/")["trouble"]
        assert trouble.startswith("Forge's broker does not know its account")
    task = forge.api.run_script(project, "echo here")
    assert forge.api.wait_until(task)["state"] == "succeeded"
    worker.end()


def test_an_account_without_its_queues_is_waited_out(forge: Production, admin: redis.Redis) -> None:
    """Nobody puts it right while no controller runs, and the worker connects again."""
    project = forge.api.project("Accounts")
    runner = forge.api.runner(project, "narrow-1")
    worker = forge.worker(runner)
    with without_a_controller(forge):
        account = f"runner-{runner.id}"
        admin.execute_command("ACL", "SETUSER", account, "clearselectors")  # type: ignore[no-untyped-call]
        admin.execute_command("CLIENT", "KILL", "USER", account)  # type: ignore[no-untyped-call]
        forge.api.await_status(runner.id, "unhealthy")
        assert "no permissions" in forge.api.get(f"runners/{runner.id}/")["trouble"]
    task = forge.api.run_script(project, "echo here")
    assert forge.api.wait_until(task)["state"] == "succeeded"
    forge.api.await_status(runner.id, "idle")
    assert worker.process.poll() is None and "Traceback" not in worker.said()


def test_a_worker_that_comes_to_harm_does_not_look_free(forge: Production, tmp_path: Path) -> None:
    """By something that nobody has foreseen: it takes no more, says so, and ends with its task."""
    project, gate = forge.api.project("Harmed"), tmp_path / "gate"
    (tmp_path / "sitecustomize.py").write_text(HARM)
    runner = forge.api.runner(project, "harmed-1")
    worker = forge.worker(runner, PYTHONPATH=str(tmp_path))
    running = forge.api.run_script(project, GATED.format(gate=gate))
    forge.api.await_output(running, b"begun")
    worker.process.send_signal(signal.SIGRTMIN)
    forge.api.await_status(runner.id, "draining")
    wait_for(lambda: "no longer hears of tasks" in worker.said(), "it says so")
    waiting = forge.api.run_script(project, "echo later")
    assert "is being shut down" in forge.api.task(waiting)["waiting_for"]
    gate.touch()
    assert forge.api.wait_until(running)["state"] == "succeeded"
    assert worker.process.wait(90) == 1
    worker.start()
    assert forge.api.wait_until(waiting)["state"] == "succeeded"
