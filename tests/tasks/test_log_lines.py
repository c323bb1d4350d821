"""Lines, times and outline of a log, however it was cut when it came."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from runners.models import Runner
from runners.worker.protocol import Piece, Report
from tasks import log_lines, log_outline
from tasks.intake import take_report
from tasks.log import append, read_pieces
from tasks.log_columns import LogOutline
from tasks.log_lines import Lines, offset_of, place_near, read_lines
from tasks.log_outline import outline
from tasks.log_search import as_seen
from tasks.models import LogChunk, Task

LOG = "".join(f"line {n} café\n" if n % 5 else "\n" for n in range(300)).encode()


def write(task: Task, data: bytes, size: int, now: datetime | None = None) -> Task:
    for start in range(0, len(data), size):
        piece, moment = data[start : start + size], now or timezone.now()
        append(task, offset=task.log_bytes, data=piece, now=moment)
    return Task.objects.get(pk=task.pk)


def texts(lines: Lines) -> list[bytes]:
    return lines.data.split(b"\n")[:-1]


@pytest.mark.parametrize("size", [1, 3, 17, 100_000])
def test_every_line_is_found_by_its_number(size: int, running_task: Task) -> None:
    task = write(running_task, LOG, size)
    wanted = LOG.split(b"\n")[:-1]
    assert task.log_lines == len(wanted)
    for first in (0, 1, 5, 150, 298, 299):
        found = read_lines(task, first=first, count=20)
        assert texts(found) == wanted[first : first + 20]
        assert found.count == len(texts(found))
        begin = sum(len(line) + 1 for line in wanted[:first])
        assert offset_of(task, first) == begin
        assert LOG[:begin].endswith(found.lead) and (found.lead or not begin)
    assert read_lines(task, first=300, count=5).count == 0
    assert read_lines(task, first=10**12, count=5).count == 0


def test_a_line_costs_the_same_wherever_it_is(
    running_task: Task, django_assert_max_num_queries: Any
) -> None:
    task = write(running_task, LOG * 20, 500)
    for first in (0, 3000, 5990):
        with django_assert_max_num_queries(9):
            assert read_lines(task, first=first, count=10).count == 10


def test_a_line_without_an_end_is_not_whole_yet(running_task: Task) -> None:
    task = write(running_task, b"one\ntwo", 100)
    assert texts(read_lines(task, first=0, count=10)) == [b"one"]


def test_a_very_long_line_is_cut_and_costs_no_more_than_a_part_of_it(
    running_task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_lines, "LINE_HEAD_BYTES", 100_000)
    task = write(running_task, b"first\n" + b"x" * 3_000_000 + b"\nlast\n", 50_000)
    found = read_lines(task, first=0, count=10)
    first, long, last = texts(found)
    assert (first, last) == (b"first", b"last")
    assert long == b"x" * log_lines.LINE_BYTES
    assert [(one.place, one.omitted) for one in found.long] == [
        (1, 3_000_000 - log_lines.LINE_BYTES)
    ]


def test_of_a_long_progress_bar_the_last_state_is_told(running_task: Task) -> None:
    bar = b"".join(b"\r%d %% %s" % (n, b"=" * 300) for n in range(101))
    task = write(running_task, bar + b"\nend\n", 7_000)
    found = read_lines(task, first=0, count=10)
    assert texts(found)[0].startswith(b"100 %")
    assert [(one.place, one.omitted, one.rewritten) for one in found.long] == [(0, 0, 100)]


@pytest.mark.parametrize("size", [101, 7_000])
def test_of_a_spinner_that_turns_for_long_the_last_state_is_told(
    size: int, running_task: Task
) -> None:
    npm = b"".join(b"\x1b[2K\x1b[1G%c installing %d" % (b"-\\|/"[n % 4], n) for n in range(1_001))
    turning = b"Working |" + b"\b/\b-\b\\\b|" * 4_000 + b"\b done"
    stepping = b"Working |" + b"\x1b[D/\x1b[1D-" * 4_000 + b"\x1b[D done"
    drawing = b"".join(b"\x1b[1000D\x1b[K%d %%" % n for n in range(3_001))
    task = write(running_task, b"\n".join([npm, turning, stepping, drawing, b"end\n"]), size)
    found = read_lines(task, first=0, count=10)
    assert [as_seen(text) for text in texts(found)] == [
        "- installing 1000", "Working  done", "Working  done", "3000 %", "end",
    ]  # fmt: skip
    assert [one.omitted for one in found.long] == [0, 0]


def test_an_answer_ends_when_it_is_long_enough(
    running_task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_lines, "ENOUGH_BYTES", 50)
    task = write(running_task, b"0123456789\n" * 100, 1000)
    found = read_lines(task, first=40, count=100)
    assert found.count == 5 and found.first == 40


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_the_end_of_a_log_begins_with_a_line_whose_number_is_known(
    size: int, running_task: Task
) -> None:
    task = write(running_task, b"one\ntwo\nthree\nfour\n", size)
    assert place_near(task, 0) == (0, 0)
    assert place_near(task, 4) == (4, 1)
    assert place_near(task, 5) == (8, 2)
    assert place_near(task, 9) == (14, 3)


def test_where_no_line_begins_for_long_the_end_begins_within_one(running_task: Task) -> None:
    task = write(running_task, b"one\n" + b"x" * 200_000, 50_000)
    assert place_near(task, 60_000) == (60_000, 1)


def test_an_attempts_lines_are_counted_apart(running_task: Task) -> None:
    write(running_task, b"a\nb\n", 2)
    again = {"attempt": 2, "lost_runner_policy": "retry", "log_bytes": 0, "log_lines": 0}
    Task.objects.filter(pk=running_task.pk).update(**again)
    task = write(Task.objects.get(pk=running_task.pk), b"c\nd\n", 2)
    assert texts(read_lines(task, first=0, count=9)) == [b"c", b"d"]
    assert task.log_lines == 2


# ---- times ----
def claimed_long_ago(task: Task) -> None:
    Task.objects.filter(pk=task.pk).update(claimed_at=timezone.now() - timedelta(hours=1))
    task.refresh_from_db()


def report(runner: Runner, *pieces: Piece, now: datetime) -> None:
    take_report(runner=runner, report=Report((), pieces, ()), now=now)


def seconds_ago(lines: Lines, now: datetime) -> list[tuple[int, float, bool]]:
    """(place, seconds before `now`, is_receipt)"""
    base = now.timestamp()
    return [(place, round(base - at / 1000, 1), known) for place, at, known in lines.times]


def test_a_line_has_the_time_at_which_its_runner_saw_it_written(
    running_task: Task, runner: Runner
) -> None:
    claimed_long_ago(running_task)
    now, pk = timezone.now(), running_task.pk
    pieces = [
        Piece(pk, 1, 0, b"a\nb\nc\n", ((0, 90.0), (2, 30.5))),
        Piece(pk, 1, 6, b"d\ne\n", ((0, 30.5), (2, None))),
        Piece(pk, 1, 10, b"f\n"),
        Piece(pk, 1, 12, b"g\nh\n", ((2, 1.5),)),
    ]
    for piece in pieces:
        Piece.read(piece.as_json(), "piece")
    report(runner, *pieces, now=now)
    task = Task.objects.get(pk=pk)
    told = seconds_ago(read_lines(task, first=0, count=20), now)
    assert told == [(0, 90.0, False), (1, 30.5, False), (4, 0.0, True), (7, 1.5, False)]
    told = seconds_ago(read_lines(task, first=2, count=20), now)
    assert told[0] == (0, 30.5, False)
    assert LogChunk.objects.filter(task=task).count() == 1, "times make no more rows"


def test_an_older_runner_says_nothing_and_gets_the_time_of_receipt(
    running_task: Task, runner: Runner
) -> None:
    now = timezone.now()
    report(runner, Piece(running_task.pk, 1, 0, b"a\nb\n"), now=now)
    report(runner, Piece(running_task.pk, 1, 4, b"c\n"), now=now + timedelta(seconds=5))
    task = Task.objects.get(pk=running_task.pk)
    told = seconds_ago(read_lines(task, first=0, count=20), now)
    assert told == [(0, 0.0, True), (2, -5.0, True)]


@pytest.mark.parametrize(
    "ages", [((0, 1e8),), ((0, 5.0), (0, 5.0)), ((1, 1.0), (2, 900.0)), ((3, 1.0), (6, 0.0))]
)
def test_times_that_cannot_be_are_bent(ages: Any, running_task: Task, runner: Runner) -> None:
    """Nothing is written before the claim, nor before what stands before it."""
    claimed_long_ago(running_task)
    now = timezone.now()
    report(runner, Piece(running_task.pk, 1, 0, b"a\nb\n", ages), now=now)
    task = Task.objects.get(pk=running_task.pk)
    (piece,) = read_pieces(task)
    known = [time.at for time in piece.times if not time.is_receipt]
    assert known == sorted(known)
    assert all(at >= task.claimed_at.timestamp() * 1000 - 1 for at in known)  # type: ignore[union-attr]


def test_times_take_little_room(running_task: Task, runner: Runner) -> None:
    claimed_long_ago(running_task)
    ages = tuple((n, 300.0 - n) for n in range(250))
    pieces = [Piece(running_task.pk, 1, n * 1000, b"x" * 1000, ages) for n in range(40)]
    report(runner, *pieces, now=timezone.now())
    chunk = LogChunk.objects.get(task=running_task)
    assert len(chunk.ages or []) <= 128


# ---- outline ----
ANSIBLE = b"""\
PLAY [web] *********************

TASK [web : Check free space on /srv] ***
\x1b[32mok: [web-01]\x1b[0m
TASK [web : Fetch release] ******
\x1b[31mfatal: [web-03]: connection reset\x1b[0m
fatal: [web-04]: connection reset
ok: [web-01]
fatal: [web-05]: [masked]
PLAY RECAP ****
"""


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_sections_and_errors_are_found(size: int, running_task: Task) -> None:
    task = write(running_task, ANSIBLE, size)
    found = outline(task, after=0)
    assert [mark[:3] for mark in found.marks] == [
        [0, "head", "PLAY [web]"],
        [2, "head", "TASK [web : Check free space on /srv]"],
        [4, "head", "TASK [web : Fetch release]"],
        [5, "error", 2],
        [8, "error", 1],
        [9, "head", "PLAY RECAP"],
    ]
    assert (found.line, found.is_all, found.is_full, found.masked) == (10, True, False, 1)
    assert outline(task, after=4).marks == found.marks[4:]


@pytest.mark.parametrize(
    ("line", "mark"),
    [
        ("::group::Build the image", ["closed", "Build the image"]),
        ("::endgroup::", ["end", ""]),
        ("section_start:15:tests[collapsed=true]\r\x1b[0KThe tests", ["closed", "The tests"]),
        ("section_start:1560896352:tests\r\x1b[0KThe tests", ["paired", "The tests"]),
        ("section_end:1560896353:tests\r\x1b[0K", ["end", ""]),
        ("\x1b[0m\x1b[1mInitializing the backend...", ["head", "Initializing the backend..."]),
        ("Plan: 2 to add, 0 to change", ["head", "Plan: 2 to add, 0 to change"]),
        ("2026-11-26T04:00:01.123Z ERROR it failed", ["error", 1]),
        ("2026-11-26 04:00:01,123 [ERROR] it failed", ["error", 1]),
        ("Traceback (most recent call last):", ["error", 1]),
        ("subprocess.CalledProcessError: returned 1", ["error", 1]),
        ("│ Error: Invalid reference", ["error", 1]),
        ("psql: error: connection refused", ["error", 1]),
        ("\x1b[31mpg_dump: error: could not write\x1b[0m", ["error", 1]),
    ],
)  # fmt: skip
def test_what_stands_out(line: str, mark: list[Any], running_task: Task) -> None:
    task = write(running_task, f"before\n{line}\nafter\n".encode(), 1000)
    assert [found[1:3] for found in outline(task, after=0).marks] == [mark]


@pytest.mark.parametrize("line", ["0 errors", "errors: 0", "error handling is on", "ok: [web-1]",
                                  "TASKS", "the PLAY [x]", "fatality: 3"])  # fmt: skip
def test_what_does_not_stand_out(line: str, running_task: Task) -> None:
    task = write(running_task, f"{line}\n".encode(), 1000)
    assert outline(task, after=0).marks == []


def test_a_long_log_is_outlined_step_by_step_and_read_once(
    running_task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_outline, "STEP_BYTES", 2000)
    monkeypatch.setattr(log_outline, "STORED_AFTER_BYTES", 1000)
    body = b"".join(b"error: %d\n" % n if n % 7 == 0 else b"line %d\n" % n for n in range(2000))
    task = write(running_task, body, 333)
    marks: list[Any] = []
    for _ in range(100):
        found = outline(task, after=len(marks))
        marks += found.marks
        if found.is_all:
            break
    assert found.is_all and found.line == 2000
    assert [mark[0] for mark in marks] == list(range(0, 2000, 7))
    row = LogOutline.objects.get(task=task)
    assert task.log_bytes - row.offset < 2000
    assert len(outline(task, after=0).marks) == len(marks)


def test_random_cuts_change_nothing(running_task: Task) -> None:
    dice = random.Random(5)
    position = 0
    while position < len(ANSIBLE):
        size = dice.randint(1, 40)
        append(running_task, offset=position, data=ANSIBLE[position : position + size],
               now=timezone.now())  # fmt: skip
        position = running_task.log_bytes
    assert running_task.log_lines == 10
    assert len(outline(running_task, after=0).marks) == 6


def test_a_log_of_nothing_but_sections_is_outlined_as_far_as_is_told(
    running_task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_outline, "MAXIMUM_MARKS", 10)
    task = write(running_task, b"TASK [x]\n" * 50, 1000)
    found = outline(task, after=0)
    assert len(found.marks) == 10 and found.is_full and found.is_all
