"""News of tasks between processes: who watches a task learns at once that it changed.

An announcement carries the task's id and nothing else, over one Redis channel that only the
server's account may use. It is an accelerator: whoever waits also looks at the row regularly.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import redis
import redis.asyncio
from django.conf import settings

from runners.broker import LIVE_CHANNEL, administrator

logger = logging.getLogger(__name__)

RECONNECT_SECONDS = 1.0


def announce(*task_ids: int) -> None:
    """Tell whoever watches that these tasks have a new state or new log bytes.

    At once, and without waiting for the broker: it is told by a thread, and what comes while that
    one waits for a silent broker goes out together after it.
    """
    _announcements.add(task_ids)


class _Announcements:
    """Those that wait for the thread that sends them, each task once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[int, None] = {}
        self._is_sending = False
        self._sender = ThreadPoolExecutor(max_workers=1, thread_name_prefix="forge-live")

    def add(self, task_ids: Iterable[int]) -> None:
        with self._lock:
            self._waiting.update(dict.fromkeys(task_ids))
            if self._is_sending or not self._waiting:
                return
            self._is_sending = True
        try:
            self._sender.submit(self._send)
        except RuntimeError as error:
            logger.debug("announcements lost, as this process ends: %s", error)

    def _send(self) -> None:
        while task_ids := self._take():
            try:
                _publish(task_ids)
            except redis.RedisError as error:
                logger.debug("announcements of %d tasks lost: %s", len(task_ids), error)
            except Exception:
                # Whatever it was, those that come later have to go out.
                logger.exception("announcements of %d tasks failed", len(task_ids))

    def _take(self) -> list[int]:
        with self._lock:
            taken, self._waiting = [*self._waiting], {}
            self._is_sending = bool(taken)
            return taken


def _publish(task_ids: Iterable[int]) -> None:
    """In one round trip."""
    with administrator().pipeline(transaction=False) as pipe:
        for task_id in task_ids:
            pipe.publish(LIVE_CHANNEL, task_id)
        pipe.execute()


_announcements = _Announcements()


class Watch:
    """`async with Watch(task_id) as watch: … await watch.news(timeout)`.

    News that comes between two waits is not missed.
    """

    def __init__(self, task_id: int) -> None:
        self._task_id = task_id
        self._event = asyncio.Event()
        self._hub = _hub()

    async def __aenter__(self) -> Watch:
        self._hub.add(self._task_id, self._event)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hub.remove(self._task_id, self._event)

    async def news(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds; True if there was an announcement."""
        try:
            await asyncio.wait_for(self._event.wait(), timeout)
        except TimeoutError:
            return False
        self._event.clear()
        return True


class _Hub:
    """One subscription per event loop, shared by all who watch there."""

    def __init__(self) -> None:
        self._events: dict[int, set[asyncio.Event]] = defaultdict(set)
        self._listener: asyncio.Task[None] | None = None

    def add(self, task_id: int, event: asyncio.Event) -> None:
        self._events[task_id].add(event)
        if self._listener is None or self._listener.done():
            self._listener = asyncio.get_running_loop().create_task(self._listen())

    def remove(self, task_id: int, event: asyncio.Event) -> None:
        self._events[task_id].discard(event)
        if not self._events[task_id]:
            del self._events[task_id]
        if not self._events and self._listener is not None:
            self._listener.cancel()
            self._listener = None

    async def _listen(self) -> None:
        while True:
            try:
                await self._subscribe()
            except (redis.RedisError, OSError) as error:
                logger.debug("live channel lost: %s", error)
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _subscribe(self) -> None:
        client = redis.asyncio.Redis.from_url(
            settings.REDIS_URL, socket_timeout=None, socket_connect_timeout=2, socket_keepalive=True
        )
        async with client, client.pubsub() as subscription:
            await subscription.subscribe(LIVE_CHANNEL)
            async for message in subscription.listen():
                if message["type"] == "message":
                    self._tell(message["data"])

    def _tell(self, data: bytes) -> None:
        if data.isdigit():
            for event in self._events.get(int(data), ()):
                event.set()


_hubs: dict[asyncio.AbstractEventLoop, _Hub] = {}


def _hub() -> _Hub:
    return _hubs.setdefault(asyncio.get_running_loop(), _Hub())
