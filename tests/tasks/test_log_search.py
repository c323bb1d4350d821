"""Search in a log: every line that holds the text, by the number that the page shows."""

from __future__ import annotations

import tracemalloc

import pytest
from django.utils import timezone

from tasks.log import append
from tasks.log_lines import LINE_BYTES, LINE_HEAD_BYTES
from tasks.log_search import MAXIMUM_LINES, find_lines
from tasks.models import Task


def write(task: Task, data: bytes, size: int) -> None:
    for start in range(0, len(data), size):
        append(task, offset=start, data=data[start : start + size], now=timezone.now())


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_lines_are_found_however_the_log_was_cut(size: int, running_task: Task) -> None:
    write(running_task, "one\nTwo café\n\nthree two\r\ntwo".encode(), size)
    assert find_lines(running_task, "two").lines == [2, 4, 5]
    assert find_lines(running_task, "CAFÉ").lines == [2]
    assert find_lines(running_task, "e").lines == [1, 4]


def test_a_line_counts_once(running_task: Task) -> None:
    write(running_task, b"aa aa\naa\n", 100)
    found = find_lines(running_task, "aa")
    assert (found.lines, found.total) == ([1, 2], 2)


@pytest.mark.parametrize("text", ["", "absent", "one\ntwo", "\0"])
def test_nothing_is_found(text: str, running_task: Task) -> None:
    write(running_task, b"one\ntwo\n", 100)
    assert find_lines(running_task, text).lines == []


def test_what_nobody_sees_is_not_found(running_task: Task) -> None:
    write(running_task, b"er\x1b[31mror\x1b[0m\n\r 5 %\r 6 %\n\x1b]0;title\x07\n", 4)
    assert find_lines(running_task, "error").lines == [1]
    assert find_lines(running_task, "5 %").lines == []
    assert find_lines(running_task, "6 %").lines == [2]
    assert find_lines(running_task, "title").lines == []
    assert find_lines(running_task, "31m").lines == []


def test_many_hits_are_counted_and_the_first_ones_told(running_task: Task) -> None:
    write(running_task, b"x\n" * (MAXIMUM_LINES + 5), 1 << 16)
    found = find_lines(running_task, "x")
    assert len(found.lines) == MAXIMUM_LINES and found.lines[-1] == MAXIMUM_LINES
    assert found.total == MAXIMUM_LINES + 5


def test_hits_beyond_the_first_ones_are_told_by_their_number(running_task: Task) -> None:
    write(running_task, b"x\n" * (2 * MAXIMUM_LINES + 5), 1 << 16)
    later = find_lines(running_task, "x", skip=2 * MAXIMUM_LINES)
    assert (later.lines, later.first) == ([2 * MAXIMUM_LINES + n for n in range(1, 6)], 20_000)
    assert later.total == 2 * MAXIMUM_LINES + 5
    nowhere = find_lines(running_task, "x", skip=10**9)
    assert (nowhere.lines, nowhere.first) == ([], nowhere.total)


def test_hits_around_a_line_are_told_with_how_many_come_before(running_task: Task) -> None:
    write(running_task, b"x\n\n" * (2 * MAXIMUM_LINES), 1 << 16)
    found = find_lines(running_task, "x", near=MAXIMUM_LINES * 2)
    half = MAXIMUM_LINES // 2
    assert len(found.lines) == MAXIMUM_LINES
    assert found.first == MAXIMUM_LINES - half
    assert found.lines[half - 1] < MAXIMUM_LINES * 2 <= found.lines[half]
    assert found.lines[0] == 2 * found.first + 1
    last = find_lines(running_task, "x", near=10**9)
    assert last.first + len(last.lines) == last.total == 2 * MAXIMUM_LINES
    few = find_lines(running_task, "x", near=1)
    assert (few.first, few.lines[0]) == (0, 1)


MEGABYTE = 1024 * 1024


@pytest.mark.parametrize(
    "progress", [b"%06d of many\r", b"\x1b[G\x1b[K%06d of many", b"%06d of many "]
)
def test_a_log_without_a_line_end_takes_no_more_memory_than_others(
    progress: bytes, running_task: Task
) -> None:
    for number in range(24):
        line = b"".join(progress % step for step in range(number * 100_000, (number + 1) * 100_000))
        offset = running_task.log_bytes
        data = line[:MEGABYTE]
        append(running_task, offset=offset, data=data, now=timezone.now())
    append(
        running_task, offset=running_task.log_bytes, data=b"\rdone\nnext done", now=timezone.now()
    )
    tracemalloc.start()
    try:
        assert find_lines(running_task, "done").lines == [1, 2]
        assert find_lines(running_task, "of many").lines == []
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 16 * MEGABYTE


@pytest.mark.parametrize("size", [1000, LINE_BYTES + 1, 10**9])
def test_what_a_page_does_not_draw_of_a_long_line_is_not_found(
    size: int, running_task: Task
) -> None:
    long = b"begin " + b"x" * 2 * LINE_HEAD_BYTES + b" hidden"
    write(running_task, b"begin\n" + long + b"\nhidden\n" + long, size)
    assert find_lines(running_task, "begin").lines == [1, 2, 4]
    assert find_lines(running_task, "hidden").lines == [3]


@pytest.mark.parametrize("size", [999, 10**9])
def test_what_is_written_last_into_a_long_line_is_found(size: int, running_task: Task) -> None:
    progress = b"".join(b"step %07d\r" % number for number in range(200_000))
    write(running_task, progress + b"done\n" + progress + b"done again", size)
    assert find_lines(running_task, "done").lines == [1, 2]
    assert find_lines(running_task, "step").lines == []


@pytest.mark.parametrize("size", [1 << 12, 1 << 20])
def test_lines_that_are_not_looked_through_whole_are_counted(size: int, running_task: Task) -> None:
    long = b"x" * (LINE_BYTES + 1)
    spun = b"\r".join(b"%09d %%" % n for n in range(LINE_BYTES // 8))
    write(running_task, b"\n".join([long, b"short", spun, long + long, b"x" * LINE_BYTES]), size)
    found = find_lines(running_task, "x")
    assert (found.lines, found.partly) == ([1, 4, 5], 2)
