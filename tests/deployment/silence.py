"""Wires between a runner and Forge: one can be cut without a word, one lets no tunnel through."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress


class Wire:
    """A TCP proxy. While it is cut, connections stay open and nothing passes, as with dropped
    packets; what was sent meanwhile arrives when it is mended.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._loop = asyncio.new_event_loop()
        self._is_whole = asyncio.Event()
        self._is_whole.set()
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", 0)
        )
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        self._loop.call_soon_threadsafe(self._is_whole.clear)

    def mend(self) -> None:
        self._loop.call_soon_threadsafe(self._is_whole.set)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, begun: bytes = b""
    ) -> None:
        try:
            await self._is_whole.wait()
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            far_writer.write(begun)
        except OSError:
            writer.close()
            return
        ways = (self._pass(reader, far_writer), self._pass(far_reader, writer))
        try:
            await asyncio.gather(*ways, return_exceptions=True)
        except asyncio.CancelledError:
            pass  # the wire is closed

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self._is_whole.wait()
                writer.write(data)
                await writer.drain()
        finally:
            with suppress(OSError):
                writer.close()


class Barrier(Wire):
    """While it is barred, HTTP passes and broker tunnels do not: new ones get no answer, as from a
    proxy that knows no WebSockets, and those that stood are ended.
    """

    def __init__(self, port: int) -> None:
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._tunnels: set[asyncio.StreamWriter] = set()
        super().__init__(port)

    def bar(self) -> None:
        self._loop.call_soon_threadsafe(self._bar)

    def _bar(self) -> None:
        self._is_open.clear()
        for writer in self._tunnels:
            writer.close()

    def unbar(self) -> None:
        self._loop.call_soon_threadsafe(self._is_open.set)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, begun: bytes = b""
    ) -> None:
        line = await reader.readline()
        if line.startswith(b"GET /runner/broker"):
            await self._is_open.wait()
            self._tunnels.add(writer)
        await super()._serve(reader, writer, begun + line)
