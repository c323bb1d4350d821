"""What the tasks of a worker are told when it has to end."""

from __future__ import annotations

import pytest

from runners.worker.agent import Agent
from runners.worker.configuration import Configuration
from runners.worker.errors import RevokedError

ENVIRONMENT = {"FORGE_URL": "https://forge.example.net", "FORGE_RUNNER_TOKEN": "fgr_" + "x" * 43}
DISPLACED = "Another worker has connected as web-1 since; this one ends."


class Told:
    """Stands where a task that runs would, and keeps what it is told."""

    reason = ""

    def stop(self, reason: str, *, force: bool = False) -> None:
        self.reason = reason


@pytest.fixture
def told() -> tuple[Agent, Told]:
    agent, run = Agent(Configuration.from_environment(ENVIRONMENT)), Told()
    agent.runs._runs[1, 1] = run  # type: ignore[assignment]
    return agent, run


def test_tasks_of_a_displaced_worker_hear_of_the_other_one(told: tuple[Agent, Told]) -> None:
    agent, run = told
    agent._displaced(DISPLACED)
    assert run.reason == f"The runner's worker was ended: {DISPLACED}"


@pytest.mark.parametrize(
    ("code", "words"),
    [("removed", "was removed from Forge"), ("replaced", "token was ended: a newer one")],
)
def test_tasks_hear_whether_the_runner_or_its_token_is_gone(
    code: str, words: str, told: tuple[Agent, Told]
) -> None:
    agent, run = told
    agent._revoked(RevokedError("Forge does not accept it: a newer one has replaced it.", code))
    assert words in run.reason
    # What is for whoever has the host would tell nobody why the task has ended.
    assert "does not accept" not in run.reason
