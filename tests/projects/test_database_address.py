"""What the address of the database says beside its place is obeyed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The first message of a client that would like TLS, and what a server says that has none.
SSL_REQUEST, NO = bytes.fromhex("0000000804d2162f"), b"N"


class ServerWithoutTls(threading.Thread):
    """Listens as PostgreSQL does; `plain` is what clients sent it in clear text."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.plain: list[bytes] = []
        self.asked = 0

    def run(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                if client.recv(8) == SSL_REQUEST:
                    self.asked += 1
                    client.sendall(NO)
                if said := client.recv(1024):
                    self.plain.append(said)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def server() -> Iterator[ServerWithoutTls]:
    found = ServerWithoutTls()
    found.start()
    yield found
    found.close()


def ask(server: ServerWithoutTls, query: str) -> subprocess.CompletedProcess[str]:
    url = f"postgres://forge:secret@127.0.0.1:{server.port}/forge{query}"
    return subprocess.run(
        [sys.executable, "manage.py", "migrate", "--check"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "SECRET_KEY": "x", "DATABASE_URL": url},
        capture_output=True,
        text=True,
    )


def test_a_server_without_tls_is_told_nothing_where_tls_is_required(
    server: ServerWithoutTls,
) -> None:
    answer = ask(server, "?sslmode=require")
    assert answer.returncode != 0
    assert server.asked and not server.plain


def test_nothing_is_required_that_nobody_asked_for(server: ServerWithoutTls) -> None:
    ask(server, "")
    assert server.asked and b"forge" in server.plain[0]
