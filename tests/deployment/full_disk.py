"""A disk without room for one byte more."""

from __future__ import annotations

import errno
from pathlib import Path


def fill(disk: Path) -> Path:
    """Take all the room there is; the answer is the file that gives it back when deleted."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as stream:
        try:
            while True:
                stream.write(b"x" * 4096)
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
    return ballast
