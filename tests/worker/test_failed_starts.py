"""What keeps a host from starting anything is no task's fault, and is found cured by trying it."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery.exceptions import Ignore

from runners.worker.agent import Agent
from runners.worker.errors import CrowdedError
from runners.worker.node import Threads
from runners.worker.supervision import ForkServer, HostError, SupervisionError
from runners.worker.trial import require_threads
from tests.worker.connected import FOLDER, agent_in
from tests.worker.test_supervision import FORCE, finish, parent_of, server, start

__all__ = ["server"]

WHY = "no process for the program: Resource temporarily unavailable"
REASON = f"Nothing was started, for a reason of the runner's host: {WHY}"


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    with agent_in(tmp_path) as made:
        made.connect()
        yield made


def test_a_task_without_a_place_is_not_claimed(agent: Agent, tmp_path: Path) -> None:
    work = tmp_path / FOLDER / "work"
    work.rmdir()
    work.touch()
    with pytest.raises(Ignore):
        agent.run(7, 1)
    assert agent.watch.trouble == "No folder for a task can be made: Not a directory"
    assert not len(agent.journal) and list((tmp_path / FOLDER / "tasks").iterdir()) == []
    work.unlink()
    agent.watch.probe()
    assert agent.watch.trouble == ""
    assert agent.run(7, 1)["outcome"] == "succeeded"
    assert work.stat().st_mode & 0o777 == 0o700 and list(work.iterdir()) == []


def test_the_first_task_that_could_not_be_started_is_the_last(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object, **named: object) -> None:
        raise HostError(WHY)

    with monkeypatch.context() as patch:
        patch.setattr(agent.forks, "spawn", fail)
        ended = agent.run(7, 1)
        assert (ended["outcome"], ended["reason"]) == ("failed", REASON)
        with pytest.raises(Ignore):
            agent.run(8, 1)
        agent.watch.probe()
        assert agent.watch.trouble == f"No task can be started: {WHY}"
    agent.watch.probe()
    assert agent.watch.trouble == ""
    assert agent.run(8, 1)["outcome"] == "succeeded"


def test_what_the_task_itself_lacks_is_no_trouble_of_the_host(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object, **named: object) -> None:
        raise SupervisionError("pwsh is not installed on this host")

    monkeypatch.setattr(agent.forks, "spawn", fail)
    assert agent.run(7, 1)["reason"].startswith("The program could not be started: pwsh is not")
    assert agent.watch.trouble == ""


def no_thread(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_a_task_without_a_thread_says_that_nothing_was_started(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        ended = agent.run(7, 1)
        why = "no thread for the task: can't start new thread"
        assert ended["reason"].endswith(f"of the runner's host: {why}")
        agent.watch.probe()
        assert agent.watch.trouble == f"No task can be started: {why}"
    agent.watch.probe()
    assert agent.watch.trouble == ""


def test_a_worker_begins_where_it_can_have_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    before = threading.active_count()
    require_threads()
    assert threading.active_count() == before
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    with pytest.raises(CrowdedError, match="too few threads") as raised:
        require_threads()
    assert raised.value.exit_code == 1


def test_work_waits_for_a_thread_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    told = list[str]()
    threads = Threads(4, lambda error: told.append(str(error)))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        answer = threads.submit(lambda: "done")
    assert told == ["no thread for the task: can't start new thread"]
    assert not answer.done()
    threads.revive()
    assert answer.result(60) == "done"
    threads.shutdown()
    threads.revive()


def test_a_fork_server_that_can_open_nothing_is_the_hosts_trouble(server: ForkServer) -> None:
    keeper = start(server, "sleep", "1000")
    fork_server = parent_of(parent_of(keeper.pid))
    bounds = resource.prlimit(fork_server, resource.RLIMIT_NOFILE)
    opened = len(os.listdir(f"/proc/{fork_server}/fd"))
    resource.prlimit(fork_server, resource.RLIMIT_NOFILE, (opened + 1, bounds[1]))
    with pytest.raises(HostError, match="could not take the request for true"):
        start(server, "true")
    resource.prlimit(fork_server, resource.RLIMIT_NOFILE, bounds)
    assert finish(start(server, "true"))[1].exit_code == 0
    keeper.stop(FORCE)
    finish(keeper)
