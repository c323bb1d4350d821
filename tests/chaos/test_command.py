"""What the command and the tasks' own programs do, without a Forge."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos import __main__ as command
from tests.chaos.conductor import Conductor
from tests.chaos.ledger import SCRIPT, Ledger, whole_log


@pytest.mark.parametrize("first", ["0", "21", "40"])
def test_a_first_trial_that_there_is_not_is_told_with_how_many_there_are(
    first: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["chaos", "--short", "--seed", "7", "--first", first])
    with pytest.raises(SystemExit):
        command.main()
    assert "--first is from 1 to 20: there are 20 trials" in capsys.readouterr().err


@pytest.mark.parametrize("task", [7, 8])
def test_a_program_writes_what_its_log_is_compared_with(task: int, tmp_path: Path) -> None:
    """One task of four writes much more than the others."""
    ledger = tmp_path / "ledger"
    script = SCRIPT.format(ledger=ledger, wait="").replace("setsid sleep 600 &", "")
    told = subprocess.run(
        ["bash", "-c", script],
        env={"PATH": "/usr/bin:/bin", "FORGE_TASK_ID": str(task), "FORGE_ATTEMPT": "3"},
        capture_output=True,
        check=True,
    )
    assert told.stdout == whole_log(task, 3)
    assert Ledger.read(ledger).written_at_least(task, 3) == told.stdout


def test_a_line_of_the_record_that_is_half_written_is_read_when_it_is_whole(
    tmp_path: Path,
) -> None:
    conductor = Conductor(tmp_path)
    line = '{"place": "mid-log", "way": "in", "task": 7, "attempt": 1, "pid": 5, "at": 1.0}\n'
    with (tmp_path / "record.jsonl").open("a") as record:
        for part, count in ((line, 1), (line[:20], 1), (line[20:], 2), (line + line, 4)):
            record.write(part)
            record.flush()
            assert len(conductor.passages({7})) == count
    conductor.close()
