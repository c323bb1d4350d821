"""A runner whose HTTP passes and whose broker tunnel does not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deployment.client import wait_for
from tests.deployment.deployment import Deployment
from tests.deployment.silence import Barrier


@pytest.fixture
def barrier(forge: Deployment) -> Iterator[Barrier]:
    found = Barrier(int(forge.place["url"].rsplit(":", 1)[1]))
    yield found
    found.unbar()
    found.close()


def test_what_waits_for_a_runner_that_cannot_hear_of_it_says_so(
    forge: Deployment, barrier: Barrier
) -> None:
    """And letting the tunnel through starts the task."""
    project = forge.api.project("Barred")
    runner = forge.api.runner(project, "barred-1")
    worker = forge.worker(runner, FORGE_URL=barrier.url)
    barrier.bar()
    task = forge.api.run_script(project, "echo heard")
    wait_for(lambda: "The broker is away" in worker.said(), "the worker misses the broker")
    forge.api.await_status(runner.id, "unhealthy")
    waiting = forge.api.task(task)["waiting_for"]
    assert "barred-1, the only runner that may take it, cannot take tasks" in waiting
    assert "Its host cannot reach the broker: " in waiting
    barrier.unbar()
    ended = forge.api.wait_until(task)
    assert (ended["state"], forge.api.log(task)) == ("succeeded", b"heard\n")
    forge.api.await_status(runner.id, "idle")
    assert "The broker answers again" in worker.said()
