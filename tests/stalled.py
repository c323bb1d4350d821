"""A program whose start does not come to an end, as where its file system does not answer."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Stalled:
    """Whoever runs `path` waits in the kernel until `release`, or for about 45 s.

    A lease on the file does it: the kernel lets nobody open it before the holder has been asked to
    give the lease back, and has done so or has let `/proc/sys/fs/lease-break-time` go by.
    """

    def __init__(self, path: Path, of: str) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(shutil.which(of)), path)
        # Open for reading: what is open for writing could not be run once it is released.
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        # What the holder is asked by; its default is to end the process.
        fcntl.fcntl(self._file, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(self._file, fcntl.F_SETLEASE, fcntl.F_WRLCK)

    def is_awaited(self) -> bool:
        """Whether somebody waits for it."""
        return fcntl.fcntl(self._file, fcntl.F_GETLEASE) != fcntl.F_WRLCK

    def release(self) -> None:
        fcntl.fcntl(self._file, fcntl.F_SETLEASE, fcntl.F_UNLCK)

    def close(self) -> None:
        os.close(self._file)


@contextmanager
def stalled(path: Path, *, of: str = "bash") -> Iterator[Stalled]:
    """A copy of the program `of`, which is looked for in PATH."""
    program = Stalled(path, of)
    try:
        yield program
    finally:
        program.close()
