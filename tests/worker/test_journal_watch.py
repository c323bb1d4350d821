"""The journal's watch: what keeps the journal from being written is said once, and found cured."""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from runners.worker.journal import Journal
from runners.worker.journal_watch import JournalWatch
from runners.worker.protocol import MAXIMUM_TROUBLE


class Changes:
    """Counts the changes, and says when the trouble is over."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.is_over = threading.Event()
        self.watch: JournalWatch | None = None

    def __call__(self) -> None:
        assert self.watch is not None
        self.said.append(self.watch.trouble)
        if not self.said[-1]:
            self.is_over.set()


@pytest.fixture
def changes() -> Changes:
    return Changes()


@pytest.fixture
def watch(tmp_path: Path, changes: Changes) -> Iterator[JournalWatch]:
    journal = Journal(tmp_path)
    journal.open()
    changes.watch = JournalWatch(journal, changed=changes)
    yield changes.watch
    changes.watch.close()
    journal.close()


def spoil(folder: Path) -> Path:
    """A file where the tasks should be: not even root can write below it."""
    tasks = folder / "tasks"
    tasks.rmdir()
    tasks.touch()
    return tasks


def test_a_journal_that_can_be_written_is_no_news_and_nothing_is_left(
    watch: JournalWatch, changes: Changes, tmp_path: Path
) -> None:
    watch.probe()
    assert (watch.trouble, changes.said) == ("", [])
    assert list((tmp_path / "tasks").iterdir()) == []


def test_trouble_is_said_once_and_its_end_is_found(
    watch: JournalWatch, changes: Changes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    tasks = spoil(tmp_path)
    for _ in range(3):
        watch.probe()
    assert changes.said == ["The journal cannot be written: File exists"]
    watch.start()
    tasks.unlink()
    assert changes.is_over.wait(60)
    assert (watch.trouble, len(changes.said)) == ("", 2)
    # One for the folder that had to be made.
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING", "WARNING"]
    assert list(tasks.iterdir()) == []


def test_what_is_said_is_one_bounded_line(watch: JournalWatch) -> None:
    watch.note(OSError(errno.EIO, "\x1b[2J\n" * 500))
    assert watch.trouble.isprintable()
    assert len(watch.trouble) == MAXIMUM_TROUBLE
