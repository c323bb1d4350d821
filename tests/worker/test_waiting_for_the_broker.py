"""A worker that Forge has taken, and whose broker does not answer yet."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runners.worker.agent import Agent
from runners.worker.configuration import Configuration
from runners.worker.consumer import ListenStep
from runners.worker.contact import DELIVERY_SECONDS
from runners.worker.patience import Known
from runners.worker.protocol import Heartbeat, HeartbeatReply, Report, ReportReply, SecretFile
from runners.worker.workplace import Workplaces
from tests.deployment.client import wait_for
from tests.worker.connected import FOLDER, Forge, agent_in
from tests.worker.test_heart import is_waiting


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    with agent_in(tmp_path / "data") as made:
        yield made


def test_secret_files_of_a_killed_worker_go_as_soon_as_forge_has_taken_the_next_one(
    agent: Agent, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "earlier" / FOLDER
    elsewhere.mkdir(parents=True)
    left = Workplaces(elsewhere, {}, is_shared=False, instance="killed").of(7, 1, None)
    left.write_secrets([SecretFile("A", "one")])
    agent.connect()
    assert not left.secrets.exists()


def test_a_token_that_is_taken_over_meanwhile_is_known_to_the_next_start(
    agent: Agent, tmp_path: Path
) -> None:
    tokens, url = agent.configuration.tokens, agent.configuration.url
    first, second = tokens.current(), "fgr_" + "b" * 43
    tokens.file = tmp_path / "token"
    agent.connect()
    agent.keep_in_touch()
    (tmp_path / "token").write_text(second)
    assert tokens.current() == second
    tokens.accept(second)  # as at any answer of Forge to a request with it
    later = Known(tmp_path / "data", url)
    assert later.has(first) and later.has(second)


class FallsSilent(Forge):
    """Takes no report, and does not say so."""

    has_asked = threading.Event()
    is_over = threading.Event()

    def report(self, request: Report) -> ReportReply:
        self.has_asked.set()
        self.is_over.wait()
        return super().report(request)


def test_a_worker_that_is_told_to_end_does_not_try_for_long_to_hand_over_what_it_holds(
    agent: Agent,
) -> None:
    silent = agent.client = FallsSilent(agent.configuration)
    agent.connect()
    entry = agent.journal.create(7, 1)
    assert entry is not None
    entry.open(nonce="n" * 32)
    entry.end("succeeded", 0, "The program ended with exit status 0.")
    agent.keep_in_touch()
    agent.contact.uploader.urgent()
    assert silent.has_asked.wait(60)
    begun = time.monotonic()
    try:
        agent.give_up()
        # Any service manager waits for longer, but not for all that is tried one after the other.
        assert time.monotonic() - begun < DELIVERY_SECONDS
        assert agent.journal.get(7, 1) is entry
    finally:
        silent.is_over.set()


class Listens(Forge):
    """Counts heartbeats."""

    def __init__(self, configuration: Configuration) -> None:
        super().__init__(configuration)
        self.heard = threading.Semaphore(0)

    def heartbeat(self, request: Heartbeat, *, patience: float = 0.0) -> HeartbeatReply:
        self.heard.release()
        return super().heartbeat(request, patience=patience)


def test_forge_hears_that_a_worker_is_ready_once_it_listens_to_its_queues(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runners.worker.contact.HOLD_SECONDS", 600.0)
    forge = agent.client = Listens(agent.configuration)
    agent.connect()
    agent.begin()
    wait_for(lambda: is_waiting(agent.contact._heart), "the heartbeat waits")
    assert not forge.heard.acquire(blocking=False)
    timer = SimpleNamespace(call_after=lambda seconds, call: None)
    consumer: Any = SimpleNamespace(
        app=SimpleNamespace(agent=agent), timer=timer, note_presence=None, task_consumer=None
    )
    ListenStep(consumer).start(consumer)
    assert forge.heard.acquire(timeout=60)
