"""Logs of 100 MB (1 GB with FORGE_LONG=1): byte for byte, while nobody's memory grows with them."""

from __future__ import annotations

import hashlib
import json
import os
import random
import sqlite3
import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import pytest
import requests

from tests.deployment.client import wait_for
from tests.deployment.deployment import SHORT, Deployment, Worker

IS_LONG = os.environ.get("FORGE_LONG") == "1"
MEGABYTES = 1000 if IS_LONG else 100
# Far above what one request or one piece takes, far below the log.
ROOM = 64 * 2**20
HEAD = 1_100_000_000 if IS_LONG else 128 * 2**20

# Every byte value, NUL among them, no UTF-8, and no block twice.
SCRIPT = f"""import random, sys
dice = random.Random(7)
block = dice.randbytes(1_000_000 - 8)
for number in range({MEGABYTES}):
    sys.stdout.buffer.write(number.to_bytes(8, "big") + block)
"""


def blocks() -> Iterator[bytes]:
    block = random.Random(7).randbytes(1_000_000 - 8)
    for number in range(MEGABYTES):
        yield number.to_bytes(8, "big") + block


def expected() -> str:
    digest = hashlib.sha256()
    for block in blocks():
        digest.update(block)
    return digest.hexdigest()


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    settings = {**SHORT, "FORGE_LOG_HEAD_BYTES": str(HEAD), "FORGE_OFFLINE_SECONDS": "30"}
    with Deployment(tmp_path_factory.mktemp("forge"), settings) as deployment:
        yield deployment


class Memory:
    """`with Memory(pids) as memory: …`: by how much each process grew above where it began."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._begin = {name: one.memory_info().rss for name, one in self._processes.items()}
        self.most = dict(self._begin)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._is_over.wait(0.05):
            for name, process in self._processes.items():
                self.most[name] = max(self.most[name], process.memory_info().rss)
            # They come and go with their tasks.
            for supervisor in self._processes["fork server"].children():
                with suppress(psutil.NoSuchProcess):
                    self._see("supervisor", supervisor.memory_info().rss)

    def _see(self, name: str, size: int) -> None:
        self._begin.setdefault(name, size)
        self.most[name] = max(self.most.get(name, 0), size)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over.set()
        self._thread.join()

    def growth(self) -> dict[str, int]:
        return {name: self.most[name] - begin for name, begin in self._begin.items()}

    def __str__(self) -> str:
        return ", ".join(
            f"{name} {begin / 2**20:.0f} to {self.most[name] / 2**20:.0f} MiB"
            for name, begin in self._begin.items()
        )


def processes_of(forge: Deployment, worker: Worker) -> dict[str, int]:
    """The web process, the worker, and the fork server that supervisors come from."""
    server = psutil.Process(worker.process.pid).children()[0]
    return {"web": forge.pid("web"), "worker": worker.process.pid, "fork server": server.pid}


def test_a_long_log_arrives_byte_for_byte_while_memory_stays_flat(
    forge: Deployment,
) -> None:
    project = forge.api.project("Long logs")
    worker = forge.worker(forge.api.runner(project, "long-1"))
    # A secret, so that the log is searched for it.
    group = forge.api.variable_group(project, "Secrets", secrets={"TOKEN": "not-in-there-8461"})
    fields = {"app": "python", "variable_groups": [group]}
    browser = signed_in(forge)
    for _ in range(2):  # so that threads, connections and buffers are there
        warm = forge.api.run_script(project, "print('x' * 3_000_000)", **fields)
        forge.api.wait_until(warm)
        assert len(forge.api.log(warm)) == 3_000_001
        streamed(forge, browser, warm)
    with browser, Memory(processes_of(forge, worker)) as memory:
        begun = time.monotonic()
        task = finished(forge, forge.api.run_script(project, SCRIPT, **fields))
        seconds = time.monotonic() - begun
        assert (task["state"], task["log_complete"]) == ("succeeded", True), task
        begun = time.monotonic()
        digest = hashlib.sha256()
        with forge.api.session.get(
            f"{forge.api.url}/api/v1/tasks/{task['id']}/log", stream=True, timeout=60
        ) as answer:
            for piece in answer.iter_content(2**20):
                digest.update(piece)
        download = time.monotonic() - begun
        begun = time.monotonic()
        shown = streamed(forge, browser, task["id"])
        stream = time.monotonic() - begun
    print(f"\n{MEGABYTES} MB in {seconds:.1f} s, downloaded in {download:.1f} s, ", end="")
    print(f"shown in {stream:.1f} s: {memory}")
    assert shown == task["log_sha256"]
    assert digest.hexdigest() == task["log_sha256"] == expected()
    assert task["log_bytes"] == MEGABYTES * 1_000_000
    assert "supervisor" in memory.growth()
    assert all(growth < ROOM for growth in memory.growth().values()), str(memory)
    # Nobody watched: its rows are few and large.
    assert chunks(forge, task["id"]) < MEGABYTES * 2


def finished(forge: Deployment, task: int) -> dict[str, Any]:
    """The task at its end, for which a busy machine may take a second for each MB."""
    seconds = 120 + MEGABYTES
    wait_for(lambda: forge.api.task(task)["finished_at"], f"task {task} finished", seconds)
    return forge.api.task(task)


def signed_in(forge: Deployment) -> requests.Session:
    """A browser. The check of a password takes 100 MB for a moment, so it comes before."""
    browser = requests.Session()
    sign_in = f"{forge.api.url}/sign-in/"
    browser.get(sign_in, timeout=60)
    who = {"username": forge.place["username"], "password": forge.place["password"]}
    token = browser.cookies["forge_csrf"]
    browser.post(sign_in, {**who, "csrfmiddlewaretoken": token}, timeout=60)
    return browser


def streamed(forge: Deployment, browser: requests.Session, task: int) -> str:
    """The SHA-256 of what the page of a task is sent."""
    digest = hashlib.sha256()
    kind = b""
    address = f"{forge.api.url}/tasks/{task}/stream"
    with browser.get(address, stream=True, timeout=60) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        for line in answer.iter_lines(2**20):
            if line.startswith(b"event: "):
                kind = line.removeprefix(b"event: ")
            elif line.startswith(b"data: ") and kind == b"log":
                digest.update(b64decode(json.loads(line.removeprefix(b"data: "))["data"]))
            if kind == b"end":
                break
    return digest.hexdigest()


def test_above_the_limit_head_and_tail_are_kept_and_the_gap_is_counted(
    short: Deployment, tmp_path: Path
) -> None:
    """Seen while it runs and afterwards, in the task, its log and on the runner's disk."""
    gate = tmp_path / "gate"
    script = f"seq 3000000; while [ ! -e {gate} ]; do sleep 0.05; done; echo the end"
    task = short.api.run_script(short.place["project_id"], script)

    def waits() -> bool:
        found = short.api.task(task)
        return found["log_gap_offset"] is not None and found["log_written_bytes"] == len(numbers)

    numbers = b"".join(b"%d\n" % number for number in range(1, 3_000_001))
    wait_for(waits, "it is told how much was written")
    running = short.api.task(task)
    assert running["log_bytes"] == running["log_gap_offset"] <= 200_000
    folder = next((short.data / "runner").glob(f"*/tasks/{task}-1"))
    assert sum(path.stat().st_size for path in folder.iterdir()) < 200_000 + 100_000 * 1.5 + 200_000
    gate.touch()
    ended = short.api.wait_until(task)
    assert (ended["state"], ended["log_complete"]) == ("succeeded", False)
    assert ended["log_problem"] == "It went above its limit: a part of it is left out."
    written = numbers + b"the end\n"
    offset, size = ended["log_gap_offset"], ended["log_gap_bytes"]
    assert ended["log_written_bytes"] == len(written)
    line = f"[Forge left out {size:,} bytes here: the log went above its limit.]\n".encode()
    kept = written[:offset] + line + written[offset + size :]
    assert kept.count(b"\n") > 1000 and kept.endswith(b"the end\n") and len(kept) < 310_000
    answer = short.api.send("GET", f"tasks/{task}/log")
    assert answer.content == kept
    assert answer.headers["Forge-Log-Gap"] == f"offset={offset}; bytes={size}"
    assert ended["log_sha256"] == hashlib.sha256(kept).hexdigest()
    assert ended["log_bytes"] == len(kept)
    tail = short.api.send("GET", f"tasks/{task}/log?tail=8")
    assert tail.content == b"the end\n"
    assert tail.headers["Forge-Log-Offset"] == str(len(kept) - 8)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A Forge that keeps little of a log."""
    settings = {**SHORT, "FORGE_LOG_HEAD_BYTES": "200000", "FORGE_LOG_TAIL_BYTES": "100000"}
    with Deployment(tmp_path_factory.mktemp("forge"), settings) as deployment:
        yield deployment


def chunks(forge: Deployment, task: int) -> int:
    with closing(sqlite3.connect(forge.data / "forge.sqlite3")) as database:
        rows = database.execute("SELECT count(*) FROM tasks_logchunk WHERE task_id = ?", (task,))
        return int(rows.fetchone()[0])
