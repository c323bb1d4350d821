"""A front before Forge that spoils reports: every other one, each time in the next of many ways."""

from __future__ import annotations

import asyncio
import itertools
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *([0-9]+)")
REPORT = b"POST /runner/v1/report "
REFUSALS = {
    "500": b"HTTP/1.1 500 Internal Server Error\r\n",
    "503": b"HTTP/1.1 503 Service Unavailable\r\n",
    "429": b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\n",
}
# cut: half of the body arrives. lost: Forge takes the report, and nobody hears its answer.
WAYS = (*REFUSALS, "cut", "lost", "lost")


class SpoilingFront:
    """Listens at `url`. `spoilt` counts what was done to reports, by way."""

    def __init__(self, forge_port: int) -> None:
        self._forge_port = forge_port
        self._ways: Iterator[str] = itertools.cycle(
            itertools.chain.from_iterable((way, "") for way in WAYS)
        )
        self.spoilt: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        serving = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(serving, self._loop).result(30)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._forge_port)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(REPORT):
                up_writer.write(head)
                await asyncio.gather(_pipe(reader, up_writer), _pipe(up_reader, writer))
                return
            while await self._report(head, reader, writer, up_reader, up_writer):
                head = await reader.readuntil(b"\r\n\r\n")
        except (OSError, asyncio.IncompleteReadError):
            pass  # one of the two has gone
        finally:
            writer.close()
            up_writer.close()

    async def _report(
        self,
        head: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> bool:
        """One report and its answer; False when the connection is to be cut."""
        body = await reader.readexactly(_length(head))
        way = next(self._ways)
        self.spoilt[way] += 1
        if way in REFUSALS:
            writer.write(REFUSALS[way] + b"Content-Length: 0\r\n\r\n")
            return True
        up_writer.write(head + (body[: len(body) // 2] if way == "cut" else body))
        await up_writer.drain()
        if way == "cut":
            return False
        answer_head = await up_reader.readuntil(b"\r\n\r\n")
        answer = answer_head + await up_reader.readexactly(_length(answer_head))
        if way == "lost":
            return False
        writer.write(answer)
        await writer.drain()
        return True


class NarrowFront(SpoilingFront):
    """Lets everything through but reports, as a proxy does that takes no long requests."""

    def __init__(self, forge_port: int) -> None:
        super().__init__(forge_port)
        self.is_narrow = True

    async def _report(
        self,
        head: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> bool:
        if not self.is_narrow:
            self._ways = itertools.repeat("")
            return await super()._report(head, reader, writer, up_reader, up_writer)
        await reader.readexactly(_length(head))
        writer.write(b"HTTP/1.1 413 Request Entity Too Large\r\nContent-Length: 0\r\n\r\n")
        return True


def _length(head: bytes) -> int:
    found = _LENGTH.search(head)
    return int(found[1]) if found else 0


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


@contextmanager
def spoiling_front(forge_port: int) -> Iterator[SpoilingFront]:
    front = SpoilingFront(forge_port)
    try:
        yield front
    finally:
        front.close()
