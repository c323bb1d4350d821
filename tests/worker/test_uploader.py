"""What a worker says while its logs and results cannot be handed over."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runners.worker import uploader as uploader_module
from runners.worker.client import Client
from runners.worker.configuration import Configuration
from runners.worker.entry import Entry
from runners.worker.errors import UnreachableError
from runners.worker.journal import Journal
from runners.worker.protocol import (
    MAXIMUM_REPORT_BYTES,
    Overflow,
    Receipt,
    Report,
    ReportReply,
    Result,
)
from runners.worker.supervision import boot_seconds
from runners.worker.tokens import TokenSource
from runners.worker.uploader import Uploader
from tests.deployment.client import wait_for

TOKEN = "fgr_" + "a" * 43
SLOW = UnreachableError("Forge did not answer in time.")
FULL = UnreachableError("Forge is in trouble (HTTP 500).")


class Fence(Client):
    """A Forge that has given up all that it is told of."""

    def __init__(self, folder: Path) -> None:
        super().__init__(Configuration("http://127.0.0.1:9", TokenSource(TOKEN), folder))
        self.results = list[Result]()
        self.bytes = 0

    def report(self, request: Report) -> ReportReply:
        self.results += request.results
        self.bytes += sum(len(piece.data) for piece in request.pieces)
        told = {one.task for one in request.pieces} | {one.task for one in request.results}
        late = "It was given up before."
        return ReportReply(tuple(Receipt(one, 1, False, 0, True, late) for one in told), 0.1)


class Forge(Client):
    """Gives these errors, one after the other, and then takes what comes."""

    def __init__(self, folder: Path, *errors: Exception) -> None:
        super().__init__(Configuration("http://127.0.0.1:9", TokenSource(TOKEN), folder))
        self._errors = list(errors)
        self.has_taken = threading.Event()
        self.logs = dict[int, bytes]()
        self.results = dict[int, Result]()
        self.overflows = list[Overflow]()

    def report(self, request: Report) -> ReportReply:
        if self._errors:
            raise self._errors.pop(0)
        for piece in request.pieces:
            self.logs[piece.task] = self.logs.get(piece.task, b"") + piece.data
        self.results |= {result.task: result for result in request.results}
        self.overflows += request.overflows
        receipts = [
            Receipt(task, 1, True, len(self.logs.get(task, b"")), task in self.results)
            for task in {*(one.task for one in request.pieces), *self.results}
        ]
        self.has_taken.set()
        return ReportReply(tuple(receipts), 0.1)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path)
    journal.open()
    begin(journal, 7)
    yield journal
    journal.close()


def begin(journal: Journal, task: int) -> Entry:
    """An attempt that has written a line."""
    entry = journal.create(task, 1)
    assert entry is not None
    entry.open(nonce="0" * 32)
    entry.log.limit(1_000_000, 1_000_000)
    entry.log.append(b"one\n")
    return entry


@contextmanager
def uploading(journal: Journal, forge: Client) -> Iterator[Uploader]:
    uploader = Uploader(forge, journal, refused=lambda entry: None, revoked=lambda error: None)
    uploader.start()
    try:
        yield uploader
    finally:
        uploader.close(60)


def say_all(journal: Journal, forge: Forge, log: pytest.LogCaptureFixture) -> list[str]:
    """What is logged until Forge has taken the log."""
    log.set_level(logging.WARNING)
    with uploading(journal, forge):
        assert forge.has_taken.wait(60)
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


def test_an_error_that_nobody_thought_of_is_said_and_ends_no_reporting(
    journal: Journal, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said = say_all(journal, Forge(tmp_path, KeyError("odd"), KeyError("odd")), caplog)
    assert said == [
        "Logs and results wait here: an unexpected error, KeyError: 'odd'",
        "Logs and results arrive again.",
    ]
    assert "Traceback" in caplog.text


def test_a_worker_that_ends_does_not_sit_out_what_a_proxy_has_asked_for(
    journal: Journal, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    forge = Forge(tmp_path, UnreachableError("Forge is in trouble (HTTP 503).", 300.0), SLOW)
    with uploading(journal, forge):
        wait_for(lambda: caplog.messages, "it is told to wait")
    assert forge.logs == {7: b"one\n"}


class Slow(Forge):
    """Answers the first report only when it is told to."""

    def __init__(self, folder: Path, *errors: Exception) -> None:
        super().__init__(folder, *errors)
        self.is_asked, self.may_answer = threading.Event(), threading.Event()

    def report(self, request: Report) -> ReportReply:
        self.is_asked.set()
        assert self.may_answer.wait(60)
        return super().report(request)


def test_a_worker_that_is_told_to_end_during_a_try_in_vain_tries_once_more(
    journal: Journal, tmp_path: Path
) -> None:
    forge = Slow(tmp_path, UnreachableError("Forge is in trouble (HTTP 503).", 300.0))
    with uploading(journal, forge) as uploader:
        assert forge.is_asked.wait(60)
        closing = threading.Thread(target=uploader.close, args=(60,))
        closing.start()
        wait_for(lambda: uploader._is_closing, "it is told to end")
        forge.may_answer.set()
        closing.join()
    assert forge.logs == {7: b"one\n"}


@pytest.mark.parametrize("note", ["{}", '{"outcome": "eaten"}', '{"task": 8, "reason": "\\ud800"}'])
def test_a_note_of_the_end_that_cannot_be_read_fails_its_task_and_no_other(
    note: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It was damaged on the disk, or another version wrote it."""
    before = Journal(tmp_path)
    before.open()
    for task in (7, 8):
        begin(before, task).end("succeeded", 0, "Done.")
    (tmp_path / "tasks" / "7-1" / "result.json").write_text(note)
    before.close()
    journal, forge = Journal(tmp_path), Forge(tmp_path)
    journal.open()
    with uploading(journal, forge):
        wait_for(lambda: len(journal) == 0, "both are handed over")
    journal.close()
    assert forge.logs == {7: b"one\n", 8: b"one\n"}
    assert forge.results[8].outcome == "succeeded"
    odd = forge.results[7]
    assert (odd.outcome, odd.log_bytes, odd.is_cut_short) == ("failed", 4, False)
    assert odd.reason == "The runner's note of how it ended cannot be read."
    assert caplog.text.count("The note of how task 7 ended cannot be read: ") == 1


@pytest.mark.parametrize(
    ("claim", "nonce"),
    [
        (None, "0" * 32),
        ("", None),
        ('{"nonce": 5}', None),
        ('{"nonce": "\\ud800"}', None),
        ('{"nonce": "00"}', None),
    ],
)
def test_a_result_names_its_claim_if_the_note_of_that_can_be_read(
    claim: str | None, nonce: str | None, tmp_path: Path
) -> None:
    before = Journal(tmp_path)
    before.open()
    begin(before, 7).end("succeeded", 0, "Done.")
    if claim is not None:
        (tmp_path / "tasks" / "7-1" / "claim.json").write_text(claim)
    before.close()
    journal, forge = Journal(tmp_path), Forge(tmp_path)
    journal.open()
    with uploading(journal, forge):
        wait_for(lambda: len(journal) == 0, "it is handed over")
    journal.close()
    assert (forge.results[7].outcome, forge.results[7].nonce) == ("succeeded", nonce)


def test_after_a_power_cut_a_log_goes_above_its_limit_where_it_did(
    journal: Journal, tmp_path: Path
) -> None:
    entry = journal.get(7, 1)
    assert entry is not None
    entry.append(b"x" * 3_000_000)
    head = entry.length
    journal.close()
    os.truncate(entry.folder / "log", 2)
    again, forge = Journal(tmp_path), Forge(tmp_path)
    again.open()
    with uploading(again, forge):
        assert forge.has_taken.wait(60)
    again.close()
    assert forge.logs == {7: b"on"}
    assert [(one.gap_offset, one.written_bytes) for one in forge.overflows] == [(head, 3_000_004)]


def test_an_attempt_whose_log_was_cut_on_the_disk_ends_without_the_rest_of_it(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploader_module, "LONGEST_PAUSE", 0.01)
    entry, forge = begin(journal, 8), Forge(tmp_path)
    entry.append(b"two\n")
    entry.end("succeeded", 0, "Done.")
    os.truncate(tmp_path / "tasks" / "8-1" / "log", 4)
    with uploading(journal, forge):
        wait_for(lambda: journal.get(8, 1) is None, "it is handed over")
    told = forge.results[8]
    assert (told.outcome, told.log_bytes, told.log_written_bytes) == ("succeeded", 4, 8)
    assert told.log_problem.startswith("The rest of it cannot be read on the runner's disk: ")
    assert forge.logs[8] == b"one\n"


def test_a_result_that_nests_without_end_is_no_result(tmp_path: Path) -> None:
    before = Journal(tmp_path)
    before.open()
    begin(before, 7)
    (tmp_path / "tasks" / "7-1" / "result.json").write_text("[" * 100_000)
    before.close()
    journal = Journal(tmp_path)
    journal.open()
    (entry,) = journal
    assert entry.result is None
    journal.close()


@contextmanager
def unreadable(entry: Entry, folder: Path) -> Iterator[Callable[[], object]]:
    """What reads a folder gets an error, as of a bad sector. Given is what ends that."""
    file, instead = entry.log.open(), os.open(folder, os.O_RDONLY)
    kept = os.dup(file)
    os.dup2(instead, file)
    try:
        yield lambda: os.dup2(kept, file)
    finally:
        for one in (instead, kept):
            os.close(one)


def test_a_log_that_the_disk_does_not_give_back_waits_alone(
    journal: Journal,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Whoever waits for such a log waits for longer than this test may take.
    monkeypatch.setattr(uploader_module, "FIRST_PAUSE", 3600.0)
    monkeypatch.setattr(uploader_module, "LONGEST_PAUSE", 3600.0)
    entry, forge = begin(journal, 8), Forge(tmp_path)
    other = journal.get(7, 1)
    assert other is not None
    with unreadable(entry, tmp_path), uploading(journal, forge) as uploader:
        wait_for(lambda: forge.logs == {7: b"one\n"}, "the other log arrives")
        said = "The log of task 8 cannot be read, and is tried again: Is a directory."
        wait_for(lambda: said in caplog.text, "it is said")
        other.append(b"two\n")
        uploader.news()
        wait_for(lambda: forge.logs[7] == b"one\ntwo\n", "more of it arrives")
        other.end("succeeded", 0, "Done.")
        uploader.urgent()
        wait_for(lambda: 7 in forge.results, "its end arrives")
        assert caplog.messages == [said]
        journal.forget(entry)
        uploader.urgent()


def test_a_log_that_can_be_read_again_arrives(
    journal: Journal, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entry, forge = begin(journal, 8), Forge(tmp_path)
    with unreadable(entry, tmp_path) as mend, uploading(journal, forge):
        wait_for(lambda: "The log of task 8 cannot be read" in caplog.text, "it is said")
        mend()
        wait_for(lambda: forge.logs.get(8) == b"one\n", "it arrives")
    assert "The log of task 8 can be read again." in caplog.text


def test_an_attempt_whose_log_stays_unreadable_ends_without_the_rest_of_it(
    journal: Journal,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(uploader_module, "LONGEST_PAUSE", 0.01)
    entry, forge = begin(journal, 8), Forge(tmp_path)
    forge.logs[8], entry.sent = b"one\n", 4
    entry.append(b"two\n")
    entry.end("failed", 3, "It exited with 3.")
    with unreadable(entry, tmp_path), uploading(journal, forge):
        wait_for(lambda: journal.get(8, 1) is None, "it is handed over")
    told = forge.results[8]
    assert (told.outcome, told.exit_code, told.reason) == ("failed", 3, "It exited with 3.")
    assert (told.log_bytes, told.log_written_bytes) == (4, 8)
    assert told.log_problem == (
        "The rest of it cannot be read on the runner's disk: Is a directory."
    )
    assert forge.logs == {7: b"one\n", 8: b"one\n"}
    assert "Task 8 has ended without the rest of its log." in caplog.messages


@pytest.mark.parametrize("size", [10, 3 * MAXIMUM_REPORT_BYTES])
def test_of_what_was_given_up_the_end_is_told_however_long_its_log(
    size: int, journal: Journal, tmp_path: Path
) -> None:
    """Whoever has to decide about another run reads it at the task."""
    entry, forge = journal.get(7, 1), Fence(tmp_path)
    assert entry is not None
    entry.log.limit(size, size)
    entry.log.append(b"x" * size)
    entry.end("succeeded", 0, "The program ended with exit status 0.")
    with uploading(journal, forge):
        wait_for(lambda: not len(journal), "the journal is empty")
    assert [one.reason for one in forge.results] == ["The program ended with exit status 0."]
    assert forge.bytes <= MAXIMUM_REPORT_BYTES


def test_a_result_says_how_long_its_program_ran_also_after_a_restart(
    journal: Journal, tmp_path: Path
) -> None:
    ran, failed = journal.get(7, 1), begin(journal, 8)
    assert ran is not None
    ran.started = boot_seconds() - 3600
    ran.end("succeeded", 0, "Done.")
    failed.end("failed", None, "The program could not be started.")
    journal.close()
    later, forge = Journal(tmp_path), Forge(tmp_path)
    later.open()
    with uploading(later, forge):
        wait_for(lambda: len(forge.results) == 2, "both results are handed over")
    later.close()
    told = forge.results[7].run_seconds
    assert told is not None and 3600 <= told < 3700
    assert forge.results[8].run_seconds is None
