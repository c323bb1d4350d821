"""The ASGI entry point: `uvicorn forge.asgi:application`.

Django gives every request a thread of its own, made and thrown away with it, and so a new
database connection each time: 6 of the 10 ms of a small API request on SQLite. Here the threads,
and with them the connections, are kept and lent to one request after another.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import django
from asgiref.sync import ThreadSensitiveContext
from django.core.handlers.asgi import ASGIHandler

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "forge.settings")


class KeptThreads:
    """Executors of one thread each, lent to one request at a time; the last used comes first."""

    def __init__(self) -> None:
        self._idle: list[ThreadPoolExecutor] = []

    def borrow(self) -> ThreadPoolExecutor:
        if self._idle:
            return self._idle.pop()
        return ThreadPoolExecutor(max_workers=1, thread_name_prefix="forge-request")

    def give_back(self, executor: ThreadPoolExecutor) -> None:
        self._idle.append(executor)


class Handler(ASGIHandler):
    """Django's handler on kept threads. Runs in one event loop, so the list needs no lock."""

    def __init__(self) -> None:
        super().__init__()
        self._threads = KeptThreads()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise ValueError(f"Only HTTP is served here, not {scope['type']}.")
        executor = self._threads.borrow()
        try:
            async with ThreadSensitiveContext(executor=executor):
                await self.handle(scope, receive, send)
        finally:
            self._threads.give_back(executor)


django.setup(set_prefix=False)
application = Handler()
