"""What tests of a worker's parts begin with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runners.worker.entry import Entry
from runners.worker.journal import Journal
from tests.worker.heirs import Heir


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    journal = Journal(tmp_path)
    journal.open()
    found = journal.create(7, 1)
    assert found is not None
    found.open(nonce="n" * 16)
    return found


@pytest.fixture
def heir() -> Iterator[Heir]:
    heir = Heir()
    yield heir
    heir.end()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "work" / "7-1"
    (found / "folder").mkdir(parents=True)
    return found
