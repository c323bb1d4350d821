"""The threads in which `forge.asgi` answers requests, each with its own database connection."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from django.db import connections

# So many request threads wait for further requests. What a rush needs beyond them ends after it.
KEPT_THREADS = 32


class KeptThreads:
    """Executors of one thread each, lent to one request at a time; the last used comes first.

    How many are lent at once has no limit: some belong to slow readers, who must keep nobody from
    being served. Used in one event loop only, so the list needs no lock.
    """

    def __init__(self) -> None:
        self._idle: list[ThreadPoolExecutor] = []

    def borrow(self) -> ThreadPoolExecutor:
        if self._idle:
            return self._idle.pop()
        return ThreadPoolExecutor(max_workers=1, thread_name_prefix="forge-request")

    def give_back(self, executor: ThreadPoolExecutor) -> None:
        if len(self._idle) < KEPT_THREADS:
            self._idle.append(executor)
            return
        # Only the thread itself may close its database connection.
        executor.submit(connections.close_all)
        executor.shutdown(wait=False)
