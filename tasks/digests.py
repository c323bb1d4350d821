"""SHA-256 of logs that grow, so that the end of a long one need not be read again.

Each process remembers how far it has followed some logs. It is an accelerator: what is not
remembered, or does not fit what is stored, is read from the database.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from tasks.log import read_log

if TYPE_CHECKING:
    from tasks.models import Task

MAXIMUM_LOGS = 2000

_Key = tuple[int, int]


class Digests:
    """Thread-safe; its memory is bounded: who grew longest ago is forgotten."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[_Key, tuple[int, hashlib._Hash]] = OrderedDict()

    def grew(self, task: Task, offset: int, data: bytes) -> None:
        """`data` was committed at `offset`, which was the end of the log."""
        known = self._take(task, offset)
        if known is None:
            if offset:
                return
            known = hashlib.sha256()
        known.update(data)
        self._put(task, offset + len(data), known)

    def matches(self, task: Task, sha256: str) -> bool:
        """Whether the committed log of the current attempt has this SHA-256, in hexadecimal."""
        position, digest = self._take_any(task)
        if self._finished(task, position, digest) == sha256:
            return True
        # What was remembered may be of a database that was replaced by an older one since.
        return position > 0 and self._finished(task, 0, hashlib.sha256()) == sha256

    def _finished(self, task: Task, position: int, digest: hashlib._Hash) -> str:
        """The digest with what is behind `position` in the database."""
        try:
            for piece in read_log(task, offset=position):
                digest.update(piece)
                position += len(piece)
        finally:
            # Who asks again after a time-out goes on from here.
            self._put(task, position, digest)
        return digest.hexdigest()

    def _take(self, task: Task, offset: int) -> hashlib._Hash | None:
        """What is known of exactly the first `offset` bytes; nobody else may have it meanwhile."""
        with self._lock:
            position, digest = self._known.pop((task.pk, task.attempt), (0, None))
        return digest if position == offset else None

    def _take_any(self, task: Task) -> tuple[int, hashlib._Hash]:
        with self._lock:
            position, digest = self._known.pop((task.pk, task.attempt), (0, hashlib.sha256()))
        # More than is stored: the database is an older one than before.
        return (position, digest) if position <= task.log_bytes else (0, hashlib.sha256())

    def _put(self, task: Task, position: int, digest: hashlib._Hash) -> None:
        with self._lock:
            self._known[task.pk, task.attempt] = (position, digest)
            if len(self._known) > MAXIMUM_LOGS:
                self._known.popitem(last=False)

    def forget(self, task: Task) -> None:
        """It has ended."""
        with self._lock:
            self._known.pop((task.pk, task.attempt), None)


digests = Digests()
