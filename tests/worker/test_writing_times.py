"""When which bytes were written: what a worker remembers of it, and what it does not claim."""

from __future__ import annotations

from pathlib import Path

import pytest

from runners.worker.fields import ProtocolError
from runners.worker.journal import Journal
from runners.worker.protocol import Piece
from runners.worker.writing_times import MAXIMUM_MARKS, WritingTimes


def test_bytes_have_the_time_of_their_write() -> None:
    times = WritingTimes()
    times.note(0, 100.0)
    times.note(10, 100.05)  # together with what came just before
    times.note(20, 103.0)
    assert times.ages(0, 30, now=110.0, most=9) == ((0, 10.0), (20, 7.0))
    assert times.ages(12, 30, now=110.0, most=9) == ((0, 10.0), (8, 7.0))
    assert times.ages(25, 30, now=110.0, most=9) == ((0, 7.0),)
    assert times.ages(0, 20, now=110.0, most=9) == ((0, 10.0),)


def test_what_forge_has_is_forgotten_and_what_is_not_known_is_not_claimed() -> None:
    times = WritingTimes()
    for offset in range(0, 50, 10):
        times.note(offset, 100.0 + offset)
    times.forget(25)
    assert times.ages(25, 50, now=200.0, most=9) == ((0, 80.0), (5, 70.0), (15, 60.0))
    # An older copy of Forge's database asks for what was forgotten.
    assert times.ages(0, 25, now=200.0, most=9) == ((20, 80.0),)
    assert WritingTimes().ages(0, 50, now=1.0, most=9) == ()


def test_years_of_output_take_bounded_room() -> None:
    times = WritingTimes()
    for number in range(20 * MAXIMUM_MARKS):
        times.note(number, number * 1.0)
    found = times.ages(0, 20 * MAXIMUM_MARKS, now=1e6, most=MAXIMUM_MARKS)
    assert MAXIMUM_MARKS / 4 < len(found) <= MAXIMUM_MARKS
    assert all(abs(1e6 - age - offset) < 1 for offset, age in found if age is not None)
    assert len(times.ages(0, 20 * MAXIMUM_MARKS, now=1e6, most=100)) <= 101


def test_what_is_kept_above_the_limit_has_no_time(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.open()
    entry = journal.create(7, 1)
    assert entry is not None
    entry.open(nonce="n" * 16)
    entry.log.limit(10, 100_000)
    entry.append(b"01234567\n")
    entry.append(b"the tail\n")
    entry.end("succeeded", 0, "Done.")
    ages = entry.times.ages(0, entry.length, now=1e9, most=9)
    assert [(offset, age is None) for offset, age in ages] == [(0, False), (10, True)]


@pytest.mark.parametrize(
    "ages",
    [None, {}, [1], [[1]], [[1, 2, 3]], [["0", 1.0]], [[0, -1.0]], [[0, "1"]], [[-1, 1.0]],
     [[5, 1.0], [3, 1.0]], [[0, 1.0]] * 300, [[10**9, 1.0]]],
)  # fmt: skip
def test_ages_that_are_none_are_refused(ages: object) -> None:
    message = Piece(1, 1, 0, b"text").as_json() | {"ages": ages}
    with pytest.raises(ProtocolError, match="ages"):
        Piece.read(message, "piece")


def test_a_worker_that_says_nothing_of_them_is_understood() -> None:
    message = Piece(1, 1, 0, b"text").as_json()
    del message["ages"]
    assert Piece.read(message, "piece").ages == ()
