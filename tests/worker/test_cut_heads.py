"""A log above its limit whose head lost its end in a power cut.

The names of the tail's files can reach the disk before what the head's file holds.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from runners.worker.bounded_log import BoundedLog, Gap, marker
from runners.worker.cut_head import SENTENCE, stand_in
from tests.worker.test_bounded_log import HEAD, full_disk, lines, opened, whole

__all__ = ["full_disk"]


def cut(folder: Path, data: bytes, left: int, tail: int = 1_000_000) -> int:
    """Write `data`, and lose all but `left` bytes of its head; how long that was."""
    log = opened(folder, tail=tail)
    log.append(data)
    head = log.length
    log.close()
    os.truncate(folder / "log", left)
    return head


def recovered(folder: Path) -> BoundedLog:
    log = BoundedLog(folder)
    log.recover(is_sealed=False)
    return log


def sealed(folder: Path) -> tuple[bytes, Gap | None, str]:
    log = recovered(folder)
    assert log.is_cut
    log.seal()
    return whole(log), log.gap, log.sha256


def is_of_forge(stand: bytes) -> bool:
    """Nothing in it could be the program's."""
    text = stand.replace(b"\n", b" ")
    return not text.replace(SENTENCE, b"").strip() or SENTENCE.startswith(text.strip())


@pytest.mark.parametrize("missing", [1, 2, 40, 68, 69, 200, HEAD // 2, None])
@pytest.mark.parametrize("unit", [b"a line of it\n", b"x"], ids=["lines", "one line"])
def test_what_follows_the_head_stands_where_it_stood(
    missing: int | None, unit: bytes, tmp_path: Path
) -> None:
    data = unit * (4_000_000 // len(unit))
    head = cut(tmp_path, data, 0)
    left = 0 if missing is None else head - missing
    (tmp_path / "log").write_bytes(data[:left])
    content, gap, digest = sealed(tmp_path)
    assert gap is not None and gap.offset == head
    begin, behind = content[:head], content[head:]
    assert begin[:left] == data[:left] and is_of_forge(begin[left:])
    # Whether Forge has lines or not where the stand-in is, the marker begins one.
    assert behind == b"\n" + marker(gap.size) + data[head + gap.size :]
    assert b"\0" not in content and digest == hashlib.sha256(content).hexdigest()


def test_a_tail_that_joins_the_head_stands_where_it_stood(tmp_path: Path) -> None:
    data = lines(50_000)
    head = cut(tmp_path, data, 1000)
    content, gap, _ = sealed(tmp_path)
    assert gap is None and len(content) == len(data)
    assert content[:1000] == data[:1000] and content[head:] == data[head:]
    assert is_of_forge(content[1000:head]) and content[head - 1 : head] == b"\n"


@pytest.mark.parametrize("lost", [0, 10, 5000], ids=["nothing", "a part of a line", "lines"])
@pytest.mark.parametrize("left", [0, HEAD // 2 + 5])
def test_a_crash_during_the_recovery_changes_nothing(left: int, lost: int, tmp_path: Path) -> None:
    cut(tmp_path, lines(300_000), left)
    expected = sealed(tmp_path)
    # The worker has died before it could note the end; another power cut takes what it wrote.
    for size in (len(expected[0]) - lost, HEAD - lost, left + lost, left):
        os.truncate(tmp_path / "log", size)
        found = recovered(tmp_path)
        assert found.is_cut and found.length == left
        assert sealed(tmp_path) == expected


def test_what_comes_after_the_recovery_is_kept_behind_the_tail(tmp_path: Path) -> None:
    data = lines(300_000)
    head = cut(tmp_path, data, 1000, tail=100_000)
    log = recovered(tmp_path)
    more = lines(30_000)
    log.append(more)
    # The file in which it is tells the next worker of the same head.
    content, gap, _ = sealed(tmp_path)
    assert gap is not None and gap.offset == head and content.endswith(lines(30_000)[-50_000:])


def test_a_log_that_was_cut_below_its_limit_is_what_is_left_of_it(tmp_path: Path) -> None:
    cut(tmp_path, lines(1000), 500)
    log = recovered(tmp_path)
    log.seal()
    assert (whole(log), log.gap, log.is_cut) == (lines(1000)[:500], None, False)


def test_a_disk_without_room_for_it_leaves_what_the_program_wrote(
    tmp_path: Path, full_disk: Callable[[int], None]
) -> None:
    data = lines(300_000)
    head = cut(tmp_path, data, 1000)
    expected = sealed(tmp_path)
    log = recovered(tmp_path)
    full_disk(head - 1000)
    with pytest.raises(OSError, match="File too large"):
        log.seal()
    assert whole(log) == data[:1000] and log.sha256 == hashlib.sha256(data[:1000]).hexdigest()
    # By where it stood in all that was written: Forge may have all of the head.
    assert log.gap == Gap(head, len(data) - head)
    full_disk(10_000_000)
    assert sealed(tmp_path) == expected


@pytest.mark.parametrize("begins_line", [True, False])
@pytest.mark.parametrize("ends_line", [True, False])
def test_a_stand_in_has_its_size_and_says_what_it_is(begins_line: bool, ends_line: bool) -> None:
    for size in (*range(1, 300), 128_000, 128_001):
        made = b"".join(stand_in(size, begins_line=begins_line, ends_line=ends_line))
        assert len(made) == size and is_of_forge(made)
        assert begins_line or made.startswith(b"\n")
        assert not ends_line or made.endswith(b"\n")
        assert made.count(SENTENCE) == (size - (not begins_line) - ends_line + 1) // 68


def test_a_long_head_is_not_held_in_memory() -> None:
    pieces = stand_in(134_217_728, begins_line=True, ends_line=True)
    longest = total = 0
    for piece in pieces:
        longest, total = max(longest, len(piece)), total + len(piece)
    assert longest < 1_000_000 and total == 134_217_728
