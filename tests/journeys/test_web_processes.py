"""`manage.py web --workers`, as the deployment guide starts it."""

from __future__ import annotations

import http.client
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import requests

from tests.broker import die_with_parent, free_port
from tests.deployment.client import wait_for
from tests.deployment.deployment import ROOT

MANAGE = [sys.executable, "manage.py"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """All that web needs: a database, no broker yet, and a key."""
    found = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "SECRET_KEY": "k" * 60,
        "DATABASE_URL": f"sqlite:///{tmp_path / 'forge.sqlite3'}",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "ALLOWED_HOSTS": "127.0.0.1",
    }
    subprocess.run([*MANAGE, "migrate", "-v0"], cwd=ROOT, env=found, check=True)
    return found


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "web.log"


@pytest.fixture
def web(environment: dict[str, str], log: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    port = free_port()
    command = [*MANAGE, "web", "--port", str(port), "--workers", "2"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=output,
            preexec_fn=die_with_parent,
        )
    yield process, f"http://127.0.0.1:{port}"
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/healthz", timeout=5).ok
    except requests.ConnectionError:
        return False


def serving(process: subprocess.Popen[bytes]) -> set[int]:
    """The processes that serve, which are not the one that keeps count of semaphores."""
    found = set()
    for child in psutil.Process(process.pid).children():
        with suppress(psutil.NoSuchProcess):  # a zombie counts as none
            if "spawn_main" in " ".join(child.cmdline()):
                found.add(child.pid)
    return found


def test_several_processes_serve_and_one_that_dies_is_replaced(
    web: tuple[subprocess.Popen[bytes], str], log: Path
) -> None:
    process, url = web
    wait_for(lambda: answers(url), "the web processes answer")
    wait_for(lambda: len(serving(process)) == 2, "both are there")
    before = serving(process)
    os.kill(min(before), signal.SIGKILL)
    wait_for(lambda: len(serving(process) - before) == 1, "another one takes its place")
    wait_for(lambda: answers(url), "they answer again")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) in (0, -signal.SIGTERM)
    assert "Traceback" not in log.read_text()


def test_an_idle_connection_is_left_for_the_proxy_to_close(
    web: tuple[subprocess.Popen[bytes], str],
) -> None:
    """Closed from this side, a POST that nginx sends at that moment would be a 502."""
    _, url = web
    wait_for(lambda: answers(url), "the web processes answer")
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    connection.auto_open = False
    connection.connect()
    connection.request("GET", "/healthz")
    assert connection.getresponse().read()
    # Servers' own wont is 5 s.
    readable, _, _ = select.select([connection.sock], [], [], 7)
    assert not readable
    connection.request("GET", "/healthz")
    assert connection.getresponse().status == 200
    connection.close()
