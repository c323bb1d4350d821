"""A broker that goes away while a worker announces itself, after it has connected to it."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import broker as real_broker
from tests.broker import free_port
from tests.deployment.client import wait_for
from tests.deployment.deployment import Worker
from tests.deployment.production import Production

ANNOUNCEMENT = b"worker.online"


class Way:
    """The way to the broker, which breaks at an announcement and stays broken until mended."""

    def __init__(self, port: int, broker_port: int) -> None:
        self._port = port
        self.has_broken = threading.Event()
        self._broker_port = broker_port
        self._writers = set[asyncio.StreamWriter]()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.mend()

    def mend(self) -> None:
        start = asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result(60)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._break()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self._broker_port)
        self._writers |= {writer, to_broker}
        await asyncio.gather(self._pass(reader, to_broker), self._pass(from_broker, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                if ANNOUNCEMENT in data and not self.has_broken.is_set():
                    self._break()
                    self.has_broken.set()
                    return
                writer.write(data)
        except OSError:
            pass
        finally:
            writer.close()

    def _break(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[tuple[Production, Way]]:
    port = free_port()
    server = {"FORGE_RUNNER_BROKER_URL": f"redis://127.0.0.1:{port}/0"}
    binary = real_broker.binaries()["valkey"]
    with Production(tmp_path, broker=[binary], server=server) as production:
        way = Way(port, production.broker_port)
        yield production, way
        way.close()


def start_and_lose_the_broker(forge: Production, way: Way) -> tuple[int, Worker]:
    project = forge.api.project("Announced")
    worker = forge.worker(forge.api.runner(project, "announced-1"))
    assert way.has_broken.wait(120)
    wait_for(lambda: "The broker is away (" in worker.said(), "the worker says so")
    return project, worker


def test_the_worker_says_so_and_comes_back(forge: tuple[Production, Way]) -> None:
    production, way = forge
    project, worker = start_and_lose_the_broker(production, way)
    way.mend()
    task = production.api.run_script(project, "echo here")
    assert production.api.wait_until(task)["state"] == "succeeded"
    wait_for(lambda: "The broker answers again." in worker.said(), "the worker says so")
    assert "Traceback" not in worker.said(), worker.said()


def test_the_worker_ends_at_a_signal(forge: tuple[Production, Way]) -> None:
    _, worker = start_and_lose_the_broker(*forge)
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(60) == 0
    assert "Traceback" not in worker.said(), worker.said()
