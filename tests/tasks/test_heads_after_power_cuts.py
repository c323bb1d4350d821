"""What Forge makes of a log whose head lost its end on the runner's disk in a power cut."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runners.models import Runner
from runners.worker.bounded_log import marker
from runners.worker.cut_head import SENTENCE
from runners.worker.entry import MISSING, Entry
from runners.worker.journal import Journal
from runners.worker.protocol import Piece, Result
from tasks.models import Task
from tests.tasks.test_intake import send, stored

HEAD, TAIL = 5000, 3000


def entry_after_power_cut(folder: Path, data: bytes, left: int, nonce: str) -> Entry:
    journal = Journal(folder)
    journal.open()
    entry = journal.create(7, 1)
    assert entry is not None
    entry.open(nonce=nonce)
    entry.log.limit(HEAD, TAIL)
    entry.append(data)
    journal.close()
    os.truncate(entry.folder / "log", left)
    journal = Journal(folder)
    journal.open()
    found = journal.get(7, 1)
    assert found is not None
    found.end("failed", None, "The host was restarted.")
    journal.close()
    return found


def told(task: Task, entry: Entry) -> Result:
    about = {"task": task.pk, "attempt": 1, "nonce": entry.nonce, "age_seconds": 0.0}
    return Result.read({**(entry.result or {}), **about}, "result")


@pytest.mark.django_db
@pytest.mark.parametrize("unit", [b"a line of it\n", b"x"], ids=["lines", "one line"])
@pytest.mark.parametrize("arrived", [0, 3000, 4990, None], ids=str)
@pytest.mark.parametrize("left", [0, 2000])
def test_marker_and_tail_follow_the_head_that_forge_has(
    left: int,
    arrived: int | None,
    unit: bytes,
    running_task: Task,
    runner: Runner,
    tmp_path: Path,
) -> None:
    Task.objects.filter(pk=running_task.pk).update(log_head_bytes=HEAD, log_tail_bytes=TAIL)
    data = unit * (400_000 // len(unit))
    entry = entry_after_power_cut(tmp_path, data, left, running_task.nonce)
    gap = entry.log.gap
    assert gap is not None
    had = gap.offset if arrived is None else arrived
    committed = send(runner, Piece(running_task.pk, 1, 0, data[:had])).log_bytes if had else 0
    # From the beginning, as an uploader that does not know yet what Forge has.
    at = 0
    while at < entry.length:
        piece = Piece(running_task.pk, 1, at, entry.read(at, 1700))
        committed = send(runner, piece).log_bytes
        at = max(at, min(committed, entry.length))
    assert send(runner, told(running_task, entry)).is_finished
    kept = stored(running_task)
    assert committed == len(kept) == entry.length
    have = max(had, left)
    assert kept[:have] == data[:have]
    behind = kept[gap.offset :]
    assert behind == b"\n" + marker(gap.size) + data[gap.offset + gap.size :]
    assert b"\0" not in kept and (SENTENCE in kept) == (gap.offset - have > 200)
    running_task.refresh_from_db()
    assert not running_task.log_complete and running_task.log_problem == MISSING
    assert running_task.log_gap_offset == gap.offset
    assert running_task.written_bytes == len(data)
