"""What a worker says about a Forge that it cannot speak to, tried against real sockets."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runners.worker.client import Client, _Exchange
from runners.worker.configuration import Configuration, Trust
from runners.worker.errors import UnreachableError
from runners.worker.protocol import Heartbeat
from runners.worker.tokens import TokenSource
from tests.deployment.authority import Authority
from tests.deployment.deployment import ROOT

Serve = Callable[..., int]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority") / "ca")


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Listens on a port and gives every caller the same answer, over TLS with a certificate."""
    with contextlib.ExitStack() as stack:

        def start(answer: bytes, certificate: tuple[Path, Path] | None = None) -> int:
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            thread = threading.Thread(target=_answer, args=(server, answer, certificate))
            thread.daemon = True
            thread.start()
            return int(server.getsockname()[1])

        yield start


def _answer(server: socket.socket, answer: bytes, certificate: tuple[Path, Path] | None) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if certificate is not None:
        context.load_cert_chain(*certificate)
    with contextlib.suppress(OSError):
        while True:
            connection: socket.socket = server.accept()[0]
            with contextlib.suppress(OSError):
                if certificate is not None:
                    connection = context.wrap_socket(connection, server_side=True)
                connection.recv(4096)
                connection.sendall(answer)
                # What is closed with something unread ends with a reset, which drops the answer.
                connection.settimeout(60)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(4096):
                    pass
            connection.close()


def said(port: int, trust: Trust | None = None) -> str:
    """The sentence about a Forge that is looked for at this port, with https."""
    with pytest.raises(UnreachableError) as caught:
        _Exchange(f"https://127.0.0.1:{port}", trust or Trust()).reach()
    return caught.value.message


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b"-ERR what?\r\n"]
)
def test_a_port_without_tls_is_not_called_an_untrusted_certificate(
    answer: bytes, serve: Serve
) -> None:
    sentence = said(serve(answer))
    assert "does not speak TLS" in sentence and "certificate" not in sentence


def test_a_connection_that_is_closed_is_not_called_an_untrusted_certificate(serve: Serve) -> None:
    assert said(serve(b"")).startswith("No secure connection")


def test_an_unknown_authority_is_called_untrusted(serve: Serve, authority: Authority) -> None:
    sentence = said(serve(b"", authority.issue("here", "IP:127.0.0.1")))
    assert "is not trusted here" in sentence and "FORGE_CA_FILE" in sentence


def test_a_certificate_for_another_name_sends_nobody_to_the_ca_file(
    serve: Serve, authority: Authority
) -> None:
    trust = Trust(ca_file=str(authority.certificate))
    sentence = said(serve(b"", authority.issue("other", "DNS:other.example")), trust)
    assert "is for another address" in sentence and "FORGE_CA_FILE" not in sentence


def test_an_error_that_nests_without_end_is_an_error_of_forges_as_any_other(
    serve: Serve, tmp_path: Path
) -> None:
    body = b"[" * 100_000
    head = b"HTTP/1.1 500 Trouble\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
    url = f"http://127.0.0.1:{serve(head + body)}"
    client = Client(Configuration(url, TokenSource("fgr_" + "a" * 43), tmp_path))
    with pytest.raises(UnreachableError, match="is in trouble"):
        client.heartbeat(Heartbeat("s" * 16, ()))


@pytest.mark.parametrize(("status", "seconds"), [(429, 240.0), (503, 30.0)])
def test_only_a_quota_keeps_a_runner_away_for_minutes(
    status: int, seconds: float, serve: Serve, tmp_path: Path
) -> None:
    head = b"HTTP/1.1 %d No\r\nRetry-After: 240\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    url = f"http://127.0.0.1:{serve(head % status)}"
    client = Client(Configuration(url, TokenSource("fgr_" + "a" * 43), tmp_path))
    with pytest.raises(UnreachableError) as caught:
        client.heartbeat(Heartbeat("s" * 16, ()))
    assert caught.value.retry_after == seconds


def registering(port: int, folder: Path) -> str:
    """What a person reads who adds a host to the Forge at this port, where nothing comes of it."""
    given = {
        "PATH": os.environ["PATH"],
        "FORGE_URL": f"http://127.0.0.1:{port}",
        "FORGE_REGISTRATION_TOKEN": "fgt_" + "a" * 43,
        "FORGE_RUNNER_DATA": str(folder),
    }
    command = [sys.executable, "-m", "runners.worker", "register"]
    done = subprocess.run(
        command, cwd=ROOT, env=given, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    "body",
    [b"<html>Sign in first.</html>", b'{"code": "invalid_token", "message": "It has expired."}'],
)
def test_a_proxy_that_asks_for_a_password_sends_nobody_to_look_at_the_registration_token(
    body: bytes, serve: Serve, tmp_path: Path
) -> None:
    sentence = registering(serve(unauthorized(body)), tmp_path)
    assert "does not answer like Forge" in sentence and "registration token" not in sentence


def test_a_registration_token_that_forge_does_not_know_is_named(
    serve: Serve, tmp_path: Path
) -> None:
    body = b'{"code": "unauthorized", "message": "The registration token is unknown."}'
    sentence = registering(serve(unauthorized(body)), tmp_path)
    assert "does not know this registration token" in sentence


def unauthorized(body: bytes) -> bytes:
    length = b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
    return b"HTTP/1.1 401 Unauthorized\r\n" + length + body
