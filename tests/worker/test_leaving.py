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


@pytest.mark.parametrize("code", ["removed", "replaced"])
def test_a_worker_says_that_tasks_were_ended_where_there_were_any(code: str) -> None:
    error = RevokedError("Forge does not accept it.", code)
    said, _ = error.parting("https://forge.example.net", has_tasks=True)
    idle, _ = error.parting("https://forge.example.net", has_tasks=False)
    assert "tasks were ended." in said
    assert "tasks" not in idle and idle.endswith((".example.net.", "accept it."))


def test_an_idle_worker_whose_runner_is_removed_speaks_of_no_tasks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = list[str]()
    monkeypatch.setattr("runners.worker.agent.say", said.append)
    agent = Agent(Configuration.from_environment(ENVIRONMENT))
    agent._has_begun = True
    agent._revoked(RevokedError("Forge does not accept it.", "removed"))
    assert said == ["This runner was removed from Forge at https://forge.example.net."]
