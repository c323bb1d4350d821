"""The journal: what was written is there after a crash, once, whole."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import threading
from pathlib import Path

import pytest

from runners.worker.entry import Entry
from runners.worker.errors import AlreadyRunningError, ConfigurationError
from runners.worker.journal import Journal
from runners.worker.supervision import boot_seconds
from tests.deployment.client import wait_for


def opened(folder: Path) -> Journal:
    journal = Journal(folder)
    journal.open()
    return journal


def entry_in(journal: Journal, task: int = 7) -> Entry:
    entry = journal.create(task, 1)
    assert entry is not None
    entry.open(nonce="n" * 16)
    return entry


def test_a_later_worker_finds_what_an_earlier_one_left(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    entry = entry_in(journal)
    entry.append(b"some ")
    entry.append(b"output\n")
    journal.close()

    found = opened(tmp_path).get(7, 1)
    assert found is not None and found.result is None
    assert (found.nonce, found.length, found.read(0, 100)) == ("n" * 16, 12, b"some output\n")
    found.append(b"more")
    found.end("failed", None, "The worker died.")
    assert found.result is not None
    assert found.result["log_sha256"] == hashlib.sha256(b"some output\nmore").hexdigest()


def test_a_result_is_found_again(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    entry_in(journal).end("succeeded", 0, "Done.")
    journal.close()
    found = opened(tmp_path).get(7, 1)
    assert found is not None and found.result is not None
    assert found.result["outcome"] == "succeeded"


def test_a_start_that_nobody_was_told_of_is_told_with_the_result(tmp_path: Path) -> None:
    """The worker was killed between the end of a short program and its next report."""
    before = boot_seconds()
    journal = opened(tmp_path)
    ran, failed = entry_in(journal, 7), entry_in(journal, 8)
    for entry in (ran, failed):
        entry.note_start()
    ran.started = boot_seconds()
    ran.end("succeeded", 0, "Done.")
    failed.end("failed", None, "The program could not be started.")
    journal.close()
    later = opened(tmp_path)
    found, other = later.get(7, 1), later.get(8, 1)
    assert found is not None and found.started is not None
    assert before < found.started < boot_seconds()
    assert other is not None and other.started is None


def test_a_start_of_before_a_restart_of_the_host_is_as_long_ago_as_the_program_ran(
    tmp_path: Path,
) -> None:
    journal = opened(tmp_path)
    entry = entry_in(journal)
    entry.note_start()
    claim = entry.folder / "claim.json"
    claim.write_text(json.dumps(json.loads(claim.read_text()) | {"boot": "another"}))
    entry.started = boot_seconds()
    entry.end("succeeded", 0, "Done.")
    end = (entry.folder / "result.json").stat().st_mtime
    os.utime(entry.folder / "started", (end - 3600, end - 3600))
    journal.close()
    found = opened(tmp_path).get(7, 1)
    assert found is not None and found.started is not None
    assert 3599 < boot_seconds() - found.started < 4000


def test_a_result_that_cannot_be_written_is_kept_in_memory(tmp_path: Path) -> None:
    entry = entry_in(opened(tmp_path))
    entry.append(b"some output\n")
    for path in entry.folder.iterdir():
        path.unlink()
    entry.folder.rmdir()
    entry.end("failed", None, "[Errno 28] No space left on device")
    assert entry.result is not None and entry.result["log_bytes"] == 12
    assert entry.read(0, 100) == b"some output\n"


def test_a_half_written_result_counts_as_none(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    entry = entry_in(journal)
    (entry.folder / "result.json").write_text('{"outcome": "succ')
    journal.close()
    found = opened(tmp_path).get(7, 1)
    assert found is not None and found.result is None


def test_a_log_that_the_disk_does_not_give_back_ends_no_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = opened(tmp_path)
    entry_in(before).append(b"one\n")
    before.close()

    def fail(*ignored: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as bad_sector:
        bad_sector.setattr(os, "pread", fail)
        journal = opened(tmp_path)
    entry = journal.get(7, 1)
    assert entry is not None and entry.length == 4
    entry.end("failed", None, "The runner's worker was killed.")
    assert entry.result is not None
    problem = "A part of it could not be read on the runner's disk: Input/output error."
    assert entry.result["log_problem"] == problem
    journal.close()


def unusable(log: Path) -> None:
    log.unlink()
    log.mkdir()


def test_a_log_that_does_not_open_is_begun_anew(tmp_path: Path) -> None:
    before = opened(tmp_path)
    entry = entry_in(before)
    entry.append(b"one\n")
    before.close()
    unusable(entry.folder / "log")
    journal = opened(tmp_path)
    found = journal.get(7, 1)
    assert found is not None and found.length == 0 and not journal.is_partial
    found.append(b"two\n")
    found.end("failed", None, "The runner's worker was killed.")
    assert found.result is not None and found.result["log_bytes"] == 4
    problem = "A part of it could not be read on the runner's disk: Is a directory."
    assert found.result["log_problem"] == problem
    journal.close()


def test_a_folder_that_cannot_be_used_is_left_and_ends_no_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = opened(tmp_path)
    log = entry_in(before).folder / "log"
    entry_in(before, 8)
    before.close()
    unusable(log)
    (log.parent / "log.unreadable").write_text("no folder may be called so")
    journal = opened(tmp_path)
    assert journal.get(7, 1) is None and journal.get(8, 1) is not None and journal.is_partial
    assert caplog.messages == [f"{log.parent} cannot be read and is left: Not a directory."]
    journal.close()


@pytest.mark.parametrize("cut", [0, 3])
def test_a_result_says_no_more_of_its_log_than_is_left(cut: int, tmp_path: Path) -> None:
    before = opened(tmp_path)
    entry = entry_in(before)
    entry.append(b"one\n")
    entry.end("succeeded", 0, "Done.")
    before.close()
    os.truncate(entry.folder / "log", cut)
    journal = opened(tmp_path)
    found = journal.get(7, 1)
    assert found is not None and found.result is not None
    assert (found.result["outcome"], found.result["log_bytes"]) == ("succeeded", cut)
    assert found.result["log_problem"] == "A part of it is missing on the runner's disk."
    assert found.result["log_written_bytes"] == 4
    journal.close()


def test_the_same_attempt_is_taken_once(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    assert journal.create(7, 1) is not None
    assert journal.create(7, 1) is None
    assert journal.create(7, 2) is not None


def test_what_forge_has_is_deleted(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    entry = entry_in(journal)
    entry.append(b"x")
    journal.forget(entry)
    assert not entry.folder.exists() and len(journal) == 0


def test_what_is_taken_while_it_is_being_deleted_keeps_all_of_its_folder(tmp_path: Path) -> None:
    """A claim was refused for now, and the attempt's hint comes to another slot at once."""
    journal = opened(tmp_path)
    refused = entry_in(journal)
    for number in range(20_000):  # so many that deleting them takes a while
        (refused.folder / f"{number}").touch()
    deletion = threading.Thread(target=journal.forget, args=[refused])
    deletion.start()
    taken = wait_for(lambda: journal.create(7, 1), "the attempt can be taken again")
    taken.open(nonce="m" * 16)
    deletion.join()
    assert isinstance(taken, Entry)
    assert sorted(path.name for path in taken.folder.iterdir()) == ["claim.json", "log"]
    # Whoever still holds the old one has no say in the new one.
    journal.forget(refused)
    assert journal.get(7, 1) is taken and (taken.folder / "claim.json").exists()
    journal.close()


def test_the_instance_stays_the_same_over_restarts(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.close()
    assert opened(tmp_path).instance == first.instance


def test_two_workers_cannot_share_a_journal(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    with pytest.raises(AlreadyRunningError, match="token of its own"):
        Journal(tmp_path).open()
    journal.close()


def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    entry = entry_in(opened(tmp_path / "runner"))
    entry.end("succeeded", 0, "Done.")
    assert stat.S_IMODE((tmp_path / "runner").stat().st_mode) == 0o700
    for name in ("log", "result.json"):
        assert stat.S_IMODE((entry.folder / name).stat().st_mode) == 0o600


def test_an_unusable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="FORGE_RUNNER_DATA"):
        Journal(tmp_path / "file" / "below").open()


def test_a_folder_of_an_earlier_version_is_taken_over_with_what_is_in_it(tmp_path: Path) -> None:
    old = opened(tmp_path / "by-token")
    entry_in(old).append(b"output\n")
    instance = old.instance
    old.close()
    journal = Journal(tmp_path / "by-runner")
    journal.take_over(tmp_path / "by-token")
    journal.open()
    found = journal.get(7, 1)
    assert found is not None and found.read(0, 100) == b"output\n"
    assert journal.instance == instance
    assert not (tmp_path / "by-token").exists()


def test_a_folder_that_a_worker_of_an_earlier_version_uses_stays_its_own(tmp_path: Path) -> None:
    opened(tmp_path / "by-token")
    with pytest.raises(AlreadyRunningError, match="Another worker already uses"):
        Journal(tmp_path / "by-runner").take_over(tmp_path / "by-token")
    assert (tmp_path / "by-token").exists() and not (tmp_path / "by-runner").exists()


def test_a_folder_of_this_version_is_never_replaced_by_an_earlier_one(tmp_path: Path) -> None:
    for name in ("by-token", "by-runner"):
        opened(tmp_path / name).close()
    Journal(tmp_path / "by-runner").take_over(tmp_path / "by-token")
    assert (tmp_path / "by-token").exists()


@pytest.mark.parametrize("part", [".", "tasks", "lock"])
def test_what_is_deleted_of_it_meanwhile_is_made_anew(tmp_path: Path, part: str) -> None:
    journal = opened(tmp_path / "runner-1")
    whole = {path.name: path.stat().st_mode for path in [journal.folder, *journal.folder.iterdir()]}
    gone = journal.folder / part
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    entry_in(journal).end("succeeded", 0, "Done.")
    found = {path.name: path.stat().st_mode for path in [journal.folder, *journal.folder.iterdir()]}
    assert found == whole
    with pytest.raises(AlreadyRunningError):
        opened(journal.folder)
    journal.close()
    later = opened(journal.folder)
    assert later.get(7, 1) is not None and later.instance == journal.instance


def test_a_folder_that_is_made_anew_for_a_look_whether_it_can_be_written_is_private(
    tmp_path: Path,
) -> None:
    journal = opened(tmp_path / "runner-1")
    shutil.rmtree(journal.folder)
    journal.probe()
    assert stat.S_IMODE(journal.folder.stat().st_mode) == 0o700
