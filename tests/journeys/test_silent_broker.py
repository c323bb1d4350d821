"""A broker at an address of its own that falls silent, as behind a firewall."""

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
from tests.deployment.production import Production

GATED = "echo begun; while [ ! -e {gate} ]; do sleep 0.05; done; echo done"


class Way:
    """The way to the broker: connections are taken and held, and nothing passes while silent."""

    taken_in_silence = 0

    def __init__(self, port: int, broker_port: int) -> None:
        self._broker_port = broker_port
        self._writers = set[asyncio.StreamWriter]()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._may_pass = asyncio.Event()
        self._may_pass.set()
        start = asyncio.start_server(self._serve, "127.0.0.1", port)
        self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result(60)

    def fall_silent(self) -> None:
        self._loop.call_soon_threadsafe(self._may_pass.clear)

    def mend(self) -> None:
        self._loop.call_soon_threadsafe(self._may_pass.set)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        self._may_pass.set()
        for writer in self._writers:
            writer.transport.abort()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.taken_in_silence += not self._may_pass.is_set()
        from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self._broker_port)
        self._writers |= {writer, to_broker}
        await asyncio.gather(self._pass(reader, to_broker), self._pass(from_broker, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self._may_pass.wait()
                writer.write(data)
        except OSError:
            pass
        finally:
            writer.close()


class Scene:
    """A worker whose task goes on until `finish`; the way to the broker is silent by then."""

    def __init__(self, forge: Production, way: Way, folder: Path) -> None:
        self.forge = forge
        self.way = way
        self.project = forge.api.project("Silent")
        self.worker = forge.worker(forge.api.runner(self.project, "silent-1"))
        self._gate = folder / "gate"
        self._task = forge.api.run_script(self.project, GATED.format(gate=self._gate))
        forge.api.await_output(self._task, b"begun")
        way.fall_silent()

    def finish(self) -> None:
        self._gate.touch()
        assert self.forge.api.wait_until(self._task)["state"] == "succeeded"

    def await_words(self, words: str) -> None:
        wait_for(lambda: words in self.worker.said(), f"the worker says {words!r}")


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    port = free_port()
    server = {"FORGE_RUNNER_BROKER_URL": f"redis://127.0.0.1:{port}/0"}
    binary = real_broker.binaries()["valkey"]
    with Production(tmp_path, broker=[binary], server=server) as production:
        way = Way(port, production.broker_port)
        yield Scene(production, way, tmp_path)
        way.close()


def test_a_worker_ends_with_its_task_and_waits_for_no_answer(scene: Scene) -> None:
    scene.worker.process.send_signal(signal.SIGTERM)
    scene.await_words("Warm shutdown: ")
    scene.finish()
    assert scene.worker.process.wait(120) == 0
    # Whoever waits in vain for one answer asks for the next one over another connection. One may
    # have been on its way when silence fell.
    assert scene.way.taken_in_silence <= 1
    assert "Traceback" not in scene.worker.said()


def test_a_worker_says_so_and_comes_back(scene: Scene) -> None:
    scene.await_words("The broker is away (")
    scene.finish()
    scene.way.mend()
    scene.await_words("The broker answers again.")
    task = scene.forge.api.run_script(scene.project, "echo here")
    assert scene.forge.api.wait_until(task)["state"] == "succeeded"
    assert "Traceback" not in scene.worker.said()
