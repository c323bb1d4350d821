"""The three pipes between the worker and a task's supervisor."""

from __future__ import annotations

import fcntl
import os
import select
import time
from contextlib import suppress
from typing import NamedTuple

from runners.worker.supervision.errors import HostError

# How long, and how much, is read of a program whose supervisor died as it started it.
REST_SECONDS = 5.0
_REST_BYTES = 1024 * 1024


class Pipes(NamedTuple):
    """The worker's ends of a task's three pipes, and the ends that go to the supervisor."""

    output: int
    control: int
    status: int
    far_ends: list[int]

    def close_far_ends(self) -> None:
        for descriptor in self.far_ends:
            os.close(descriptor)

    def close_near_ends(self) -> None:
        for descriptor in (self.output, self.control, self.status):
            os.close(descriptor)


def open_pipes() -> Pipes:
    """New ones. Raises HostError where the process may open no more files."""
    opened: list[int] = []
    try:
        for _ in range(3):
            opened.extend(os.pipe())
    except OSError as error:
        for descriptor in opened:
            os.close(descriptor)
        raise HostError(f"no pipe for the task: {error.strerror}") from error
    output, log, orders, control, status, report = opened
    return Pipes(output, control, status, [log, orders, report])


def is_readable(descriptor: int, seconds: float = 0.0) -> bool:
    """Whether there is something to read, or the end, within that time.

    Not by `select`, which takes no descriptor above 1023, as a worker with many tasks has them.
    """
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def read_some(descriptor: int, size: int) -> bytes | None:
    """What is there, from a descriptor that does not block; None if somebody else has taken it."""
    try:
        return os.read(descriptor, size)
    except BlockingIOError:
        return None


def capacity_of(descriptor: int) -> int:
    """How many bytes a pipe can hold at the moment: a program may change it for its own."""
    with suppress(OSError, AttributeError):  # macOS does not say
        return fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)
    return _REST_BYTES


def rest_of(output: int) -> tuple[bytes, bool]:
    """What is in the pipe and comes until its end, and whether that came; it is a pipe's at most.

    The fork server ends the program, which nobody reads from any more.
    """
    rest, deadline = b"", time.monotonic() + REST_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        if not is_readable(output, left):
            break
        data = os.read(output, _REST_BYTES)
        if not data:
            return rest, True
        rest += data
        if len(rest) >= _REST_BYTES:
            break
    return rest, False
