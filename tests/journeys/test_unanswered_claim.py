"""A worker that is told to end while Forge, which alone knows whose a task is, is away."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests import broker as real_broker
from tests.deployment.client import wait_for
from tests.deployment.production import Production


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[Production]:
    """Workers hear of tasks at the broker's own address, also while the web process is away."""
    binary = real_broker.binaries()["valkey"]
    server = {"FORGE_RUNNER_BROKER_URL": "redis://127.0.0.1:{broker_port}/0"}
    with Production(tmp_path, broker=[binary], server=server) as production:
        yield production


def test_it_ends_without_the_task_and_another_worker_runs_that_once(
    forge: Production, tmp_path: Path
) -> None:
    project = forge.api.project("Away")
    gate, ledger = tmp_path / "gate", tmp_path / "ledger"
    worker = forge.worker(forge.api.runner(project, "away-1", concurrency=1))
    first = forge.api.run_script(project, f"echo up; until [ -e {gate} ]; do sleep 0.1; done")
    forge.api.await_output(first, b"up")
    second = forge.api.run_script(project, f"echo $FORGE_ATTEMPT >> {ledger}")
    hints = f"forge:project:{project}:tasks"
    with redis.Redis.from_url(forge.broker_url) as broker:
        wait_for(lambda: broker.llen(hints), "the second task is announced")
        forge.web.kill()
        gate.touch()
        wait_for(lambda: not broker.llen(hints), "the worker has heard of it")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(60) == 0
    assert "What came of 1 task is kept in " in worker.said()
    assert not ledger.exists()
    forge.web.start()
    assert forge.api.task(second)["state"] == "queued"
    worker.start()
    assert [task["state"] for task in forge.api.finished([first, second])] == ["succeeded"] * 2
    assert ledger.read_text() == "1\n"
