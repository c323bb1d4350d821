"""What a worker says while its logs and results cannot be handed over."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from runners.worker.client import Client
from runners.worker.configuration import Configuration
from runners.worker.errors import UnreachableError, WorkerError
from runners.worker.journal import Journal
from runners.worker.protocol import Receipt, Report, ReportReply
from runners.worker.tokens import TokenSource
from runners.worker.uploader import Uploader

TOKEN = "fgr_" + "a" * 43
SLOW = UnreachableError("Forge did not answer in time.")
FULL = UnreachableError("Forge is in trouble (HTTP 500).")


class Forge(Client):
    """Gives these errors, one after the other, and then takes what comes."""

    def __init__(self, folder: Path, *errors: WorkerError) -> None:
        super().__init__(Configuration("http://127.0.0.1:9", TokenSource(TOKEN), folder))
        self._errors = list(errors)
        self.has_taken = threading.Event()

    def report(self, request: Report) -> ReportReply:
        if self._errors:
            raise self._errors.pop(0)
        self.has_taken.set()
        receipts = [
            Receipt(piece.task, piece.attempt, True, piece.offset + len(piece.data), False)
            for piece in request.pieces
        ]
        return ReportReply(tuple(receipts), 0.1)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path)
    journal.open()
    entry = journal.create(7, 1)
    assert entry is not None
    entry.open(nonce="0" * 32)
    entry.log.limit(1_000_000, 1_000_000)
    entry.log.append(b"one\n")
    yield journal
    journal.close()


def say_all(journal: Journal, forge: Forge, log: pytest.LogCaptureFixture) -> list[str]:
    """What is logged until Forge has taken the log."""
    log.set_level(logging.WARNING)
    uploader = Uploader(forge, journal, refused=lambda entry: None, revoked=lambda error: None)
    uploader.start()
    assert forge.has_taken.wait(60)
    uploader.close(60)
    return log.messages


def test_each_reason_of_an_outage_is_said_once_and_so_is_its_end(
    journal: Journal, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A proxy whose disk is full answers heartbeats and refuses logs, maybe after an outage."""
    said = say_all(journal, Forge(tmp_path, SLOW, SLOW, FULL, FULL), caplog)
    assert said == [
        f"Logs and results wait here: {SLOW}",
        f"Logs and results wait here: {FULL}",
        "Logs and results arrive again.",
    ]


def test_one_try_in_vain_is_no_outage_that_ends(
    journal: Journal, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said = say_all(journal, Forge(tmp_path, SLOW), caplog)
    assert said == [f"Logs and results wait here: {SLOW}"]
