"""The host's watch: what keeps a host from carrying out tasks is said once, and found cured."""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from runners.worker.host_watch import JOURNAL, STARTS, HostWatch
from runners.worker.journal import Journal
from runners.worker.protocol import MAXIMUM_TROUBLE
from runners.worker.supervision import HostError


class Changes:
    """Counts the changes, and says when the trouble is over."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.is_over = threading.Event()
        self.watch: HostWatch | None = None

    def __call__(self) -> None:
        assert self.watch is not None
        self.said.append(self.watch.trouble)
        if not self.said[-1]:
            self.is_over.set()


@pytest.fixture
def changes() -> Changes:
    return Changes()


@pytest.fixture
def watch(tmp_path: Path, changes: Changes) -> Iterator[HostWatch]:
    journal = Journal(tmp_path)
    journal.open()
    changes.watch = HostWatch({JOURNAL: journal.probe}, changed=changes)
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
    watch: HostWatch, changes: Changes, tmp_path: Path
) -> None:
    watch.probe()
    assert (watch.trouble, changes.said) == ("", [])
    assert list((tmp_path / "tasks").iterdir()) == []


def test_trouble_is_said_once_and_its_end_is_found(
    watch: HostWatch, changes: Changes, tmp_path: Path, caplog: pytest.LogCaptureFixture
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


def test_what_is_said_is_one_bounded_line(watch: HostWatch) -> None:
    watch.note(JOURNAL, OSError(errno.EIO, "\x1b[2J\n" * 500))
    assert watch.trouble.isprintable()
    assert len(watch.trouble) == MAXIMUM_TROUBLE


def test_a_start_is_tried_once_one_has_failed_and_until_one_succeeds(changes: Changes) -> None:
    failing = HostError("no process for the program: Resource temporarily unavailable")
    tries = list[int]()

    def start() -> None:
        tries.append(len(tries))
        if len(tries) < 3:
            raise failing

    changes.watch = HostWatch({JOURNAL: lambda: None, STARTS: start}, changed=changes)
    changes.watch.probe()
    assert (tries, changes.watch.trouble) == ([], "")
    changes.watch.note(STARTS, failing)
    said = f"No task can be started: {failing}"
    for count in (1, 2, 3):
        assert changes.watch.trouble == said
        changes.watch.probe()
        assert len(tries) == count
    changes.watch.probe()
    assert len(tries) == 3 and changes.said == [said, ""]


def test_the_journal_is_named_before_what_else_fails(changes: Changes) -> None:
    def fail() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    changes.watch = HostWatch({JOURNAL: fail, STARTS: fail}, changed=changes)
    changes.watch.note(STARTS, HostError("the fork server cannot start"))
    changes.watch.probe()
    assert changes.watch.trouble == "The journal cannot be written: No space left on device"
