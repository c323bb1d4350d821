"""A worker that is told to end while its network drops every packet."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployment.client import wait_for
from tests.deployment.deployment import Deployment
from tests.deployment.silence import Wire

# The answers that it could wait for take 15 s at the broker and 30 s at Forge, one after the other.
SECONDS = 30


@pytest.fixture
def wire(forge: Deployment) -> Iterator[Wire]:
    found = Wire(int(forge.place["url"].rsplit(":", 1)[1]))
    yield found
    found.mend()
    found.close()


def test_an_idle_worker_ends_soon_although_nobody_answers(forge: Deployment, wire: Wire) -> None:
    project = forge.api.project("Silent")
    worker = forge.worker(forge.api.runner(project, "silent-1"), FORGE_URL=wire.url)
    task = forge.api.run_script(project, "true")
    assert forge.api.wait_until(task)["state"] == "succeeded"
    wire.cut()
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(SECONDS) == 0
    assert "Traceback" not in worker.said()


def test_a_worker_that_ends_with_a_result_says_that_it_keeps_it(
    forge: Deployment, wire: Wire, tmp_path: Path
) -> None:
    project = forge.api.project("Kept")
    worker = forge.worker(forge.api.runner(project, "kept-1"), FORGE_URL=wire.url)
    gate, end = tmp_path / "gate", tmp_path / "end"
    script = f"echo begun; until [ -e {gate} ]; do sleep 0.1; done; touch {end}"
    task = forge.api.run_script(project, script)
    forge.api.await_output(task, b"begun")
    wire.cut()
    gate.touch()
    wait_for(end.exists, "the program has ended")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(90) == 0
    assert "What came of 1 task is kept in " in worker.said()
    wire.mend()
    worker.start()
    assert forge.api.wait_until(task)["state"] == "succeeded"
    assert forge.api.log(task) == b"begun\n"
