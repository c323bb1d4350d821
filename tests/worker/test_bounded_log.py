"""A log above its limit: head and tail are kept, what is left out is counted to the byte."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runners.worker.bounded_log import BoundedLog, Gap, marker
from runners.worker.journal import Journal

HEAD, TAIL = 200_000, 1_000_000


def opened(folder: Path, head: int = HEAD, tail: int = TAIL) -> BoundedLog:
    log = BoundedLog(folder)
    log.open()
    log.limit(head, tail)
    return log


def whole(log: BoundedLog) -> bytes:
    return log.read(0, log.length + 1000)


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def lines(count: int) -> bytes:
    return b"".join(b"line %07d\n" % number for number in range(count))


def fed(log: BoundedLog, data: bytes, seed: int = 1) -> None:
    dice = random.Random(seed)
    at = 0
    while at < len(data):
        size = dice.choice((1, 700, 65_536, 400_000))
        log.append(data[at : at + size])
        at += size


@pytest.mark.parametrize("size", [0, 1, HEAD, HEAD + 1, HEAD + TAIL - 1, HEAD + TAIL])
def test_what_fits_into_head_and_tail_is_kept_whole(size: int, tmp_path: Path) -> None:
    data = random.Random(size).randbytes(size)
    log = opened(tmp_path)
    fed(log, data)
    log.seal()
    assert (whole(log), log.gap, log.written) == (data, None, size)
    assert log.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    "data",
    [lines(1_000_000), random.Random(3).randbytes(9_000_000), b"x" * 5_000_000],
    ids=["lines", "bytes", "one line"],
)
@pytest.mark.parametrize(("head", "tail"), [(HEAD, TAIL), (1, 10), (100, 0), (70_000, 70_000)])
def test_head_gap_and_tail_are_exactly_what_was_written(
    data: bytes, head: int, tail: int, tmp_path: Path
) -> None:
    log = opened(tmp_path, head, tail)
    fed(log, data)
    assert on_disk(tmp_path) <= head + tail * 1.5 + 65_536 * 2
    log.seal()
    log.discard_tail()
    assert log.gap is not None and log.written == len(data)
    kept = whole(log)
    line = marker(log.gap.size)
    first, found, last = kept.partition(line)
    assert found
    # A line of its own is made for it where the head ends within one.
    begin = first if first == data[: log.gap.offset] else first.removesuffix(b"\n")
    assert begin == data[: log.gap.offset] and len(begin) <= head
    assert last == data[log.gap.offset + log.gap.size :]
    assert len(begin) + len(last) <= head + tail
    assert log.sha256 == hashlib.sha256(kept).hexdigest()
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_the_cut_goes_between_lines(tmp_path: Path) -> None:
    data = lines(200_000)
    log = opened(tmp_path)
    fed(log, data)
    log.seal()
    first, _, last = whole(log).partition(b"[Forge left out")
    assert first.endswith(b"\n") and first.splitlines()[-1] in data.splitlines()
    assert last.splitlines()[1].startswith(b"line ") and len(last.splitlines()[1]) == 12


def test_nothing_behind_the_head_is_read_before_the_end(tmp_path: Path) -> None:
    log = opened(tmp_path)
    fed(log, lines(200_000))
    assert log.is_above_limit and log.length <= HEAD < log.written
    assert whole(log) == lines(200_000)[: log.length]


def test_a_later_worker_finds_head_and_tail_again(tmp_path: Path) -> None:
    data = lines(300_000)
    fed(opened(tmp_path), data)
    found = BoundedLog(tmp_path)
    found.recover(is_sealed=False)
    expected = BoundedLog(tmp_path)
    assert found.written == len(data)
    found.seal()
    assert found.gap is not None
    assert whole(found).endswith(data[found.gap.offset + found.gap.size :])
    assert len(data) - found.gap.offset - found.gap.size <= HEAD + TAIL - found.gap.offset
    # The next one died while it put the tail behind the head: it is done again, the same.
    before = whole(found)
    expected.recover(is_sealed=False)
    expected.seal()
    assert whole(expected) == before and expected.gap == found.gap


def test_a_log_that_lacks_a_part_of_its_head_says_so(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.open()
    entry = journal.create(7, 1)
    assert entry is not None
    entry.open(nonce="n" * 16)
    entry.log.limit(HEAD, TAIL)
    entry.append(lines(300_000))
    journal.close()
    os.truncate(entry.folder / "log", 100)
    journal.open()
    found = journal.get(7, 1)
    assert found is not None and found is not entry
    found.end("failed", None, "The host was restarted.")
    assert found.result is not None
    assert found.result["log_problem"] == "A part of it is missing on the runner's disk."
    journal.close()


def test_a_journal_with_a_result_is_not_cut_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.open()
    entry = journal.create(7, 1)
    assert entry is not None
    entry.open(nonce="n" * 16)
    entry.log.limit(HEAD, TAIL)
    entry.append(lines(300_000))
    entry.end("succeeded", 0, "Done.")
    content, result = entry.read(0, 10_000_000), entry.result
    journal.close()
    again = Journal(tmp_path)
    again.open()
    found = again.get(7, 1)
    assert found is not None and found.result == result and found.read(0, 10_000_000) == content
    assert result is not None and result["log_gap_bytes"] > 0
    kept = result["log_written_bytes"] - result["log_gap_bytes"]
    assert result["log_bytes"] == kept + len(marker(result["log_gap_bytes"]))


def test_a_disk_without_room_for_the_tail_leaves_the_head_and_says_so(
    tmp_path: Path, full_disk: Callable[[int], None]
) -> None:
    journal = Journal(tmp_path)
    journal.open()
    entry = journal.create(7, 1)
    assert entry is not None
    entry.open(nonce="n" * 16)
    entry.log.limit(HEAD, TAIL)
    data = lines(300_000)
    entry.append(data)
    head = entry.length
    full_disk(head + 1000)
    entry.end("succeeded", 0, "Done.")
    assert entry.result is not None
    assert entry.log.gap == Gap(head, len(data) - head)
    assert entry.read(0, 10_000_000) == data[:head]
    assert "could not be kept on the runner's disk" in entry.result["log_problem"]
    assert entry.result["log_sha256"] == hashlib.sha256(data[:head]).hexdigest()


@pytest.fixture
def full_disk() -> Iterator[Callable[[int], None]]:
    """Let no file grow above a size, as a disk that fills up would."""
    import resource
    import signal

    def limit(size: int) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
