"""What tests of a worker's parts begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from runners.worker.journal import Entry, Journal


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    journal = Journal(tmp_path)
    journal.open()
    found = journal.create(7, 1)
    assert found is not None
    found.open(nonce="n" * 16)
    return found
