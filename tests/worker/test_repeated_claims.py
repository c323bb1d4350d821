"""A claim that had grown old before its program was started is asked for again."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from runners.worker.agent import Agent
from runners.worker.claiming import Claims
from runners.worker.client import Client
from runners.worker.configuration import Configuration
from runners.worker.contact import Contact
from runners.worker.host_watch import HostWatch
from runners.worker.journal import Journal
from runners.worker.protocol import ClaimRequest, ConnectReply, Job
from runners.worker.supervision import ForkServer, boot_seconds
from runners.worker.task_users import TaskUser
from runners.worker.tokens import TokenSource
from runners.worker.workplace import Workplace, Workplaces
from tests.deployment.client import wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs a subreaper")

LEASE_SECONDS = 4.0


class Forge(Client):
    """Gives what is asked for: at first for a moment, later for as long as it takes."""

    def __init__(self, configuration: Configuration) -> None:
        super().__init__(configuration)
        self.asked: list[ClaimRequest] = []

    def claim(self, request: ClaimRequest) -> Job:
        self.asked.append(request)
        return Job(
            request.task,
            request.attempt,
            "bash",
            "echo ran",
            {},
            60.0,
            "Payments",
            "Deploy",
            lease_seconds=LEASE_SECONDS if len(self.asked) == 1 else 0.0,
        )


class StandsStill(Workplaces):
    """What happens to the worker between the answer to its first claim and the start."""

    def __init__(self, agent: Agent, folder: Path) -> None:
        super().__init__(folder, {}, is_shared=False)
        self._agent: Agent | None = agent

    def of(
        self, task: int, attempt: int, user: TaskUser | None, *, has_secrets: bool = True
    ) -> Workplace:
        agent, self._agent = self._agent, None
        if agent is not None:
            over = boot_seconds() + LEASE_SECONDS
            wait_for(lambda: boot_seconds() > over, "the claim has grown old")
            agent.drain()
        return super().of(task, attempt, user, has_secrets=has_secrets)


def test_a_worker_that_is_told_to_drain_meanwhile_runs_what_forge_has_given_it(
    tmp_path: Path,
) -> None:
    """To Forge it starts here: dropped without a word, it would go on to be lost."""
    token = TokenSource("fgr_" + "a" * 43)
    agent = Agent(Configuration("http://127.0.0.1:9", token, tmp_path))
    forge = Forge(agent.configuration)
    agent.claims = Claims(
        forge,
        session="s" * 16,
        is_draining=agent._is_draining,
        is_leaving=threading.Event(),
    )
    agent.welcome = ConnectReply(1, "r", "r@host", 1, "Payments", "", "forge:", ("runner-1",), 1, 1)
    agent.journal = Journal(tmp_path)
    agent.journal.open()
    agent.forks = ForkServer()  # of its own it would let the process of the tests adopt orphans
    agent.workplaces = StandsStill(agent, tmp_path)
    agent.workplaces.clear()
    agent.watch = HostWatch({}, changed=lambda: None)
    agent.contact = Contact(
        forge, agent.journal, agent.session, refused=lambda entry: None, revoked=lambda error: None
    )
    try:
        assert agent.run(7, 1)["outcome"] == "succeeded"
        assert [request.is_draining for request in forge.asked] == [False, True]
        entry = agent.journal.get(7, 1)
        assert entry is not None and entry.read(0, 100) == b"ran\n"
    finally:
        agent.forks.close()
        agent.journal.close()
