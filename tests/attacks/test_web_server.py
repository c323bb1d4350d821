"""Bytes that no HTTP library would send, at the port of `manage.py web` without a proxy."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator

import psutil
import pytest
import requests

from tests.attacks.scene import Scene
from tests.attacks.thief import Thief
from tests.deployment.client import wait_for

pytestmark = pytest.mark.usefixtures("innocent")

# As many as a small attacker opens; the long form adds those that outlast the server's patience.
SLOW_CONNECTIONS = 200
LONG = bool(os.environ.get("FORGE_LONG"))


@contextlib.contextmanager
def connection(forge: Scene) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", forge.web_port), 30) as found:
        yield found


def answers(forge: Scene, *pieces: bytes, patience: float = 30.0) -> bytes:
    """All that comes back until the server closes, or is silent for as long as `patience`."""
    with connection(forge) as sender:
        sender.settimeout(patience)
        found = b""
        with contextlib.suppress(OSError):
            for piece in pieces:
                sender.sendall(piece)
            while data := sender.recv(65536):
                found += data
    return found


def statuses(found: bytes) -> list[int]:
    return [int(part[:3]) for part in found.split(b"HTTP/1.1 ")[1:]]


def ask(forge: Scene, line: str, *headers: str) -> bytes:
    """The answer to one request, after which the server closes."""
    return answers(forge, request(line, *headers, "Connection: close"))


def request(line: str, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join([line, "Host: localhost", *headers, "", ""]).encode() + body


@pytest.fixture(scope="module", autouse=True)
def unfinished(forge: Scene) -> Iterator[list[socket.socket]]:
    """Two connections from before all tests here: one says nothing, one a byte now and then."""
    with connection(forge) as idle, connection(forge) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nX: ")
        is_over = threading.Event()

        def trickle() -> None:
            with contextlib.suppress(OSError):
                while not is_over.wait(0.5):
                    slow.sendall(b"x")

        sender = threading.Thread(target=trickle)
        sender.start()
        yield [idle, slow]
        is_over.set()
        sender.join()


SMUGGLED = request("GET /healthz?smuggled HTTP/1.1")
POST = "POST /runner/v1/verify HTTP/1.1"
# Two that disagree about where a request ends: a proxy might believe the other one.
AMBIGUOUS = {
    "length and chunks": (f"Content-Length: {len(SMUGGLED) + 5}", "Transfer-Encoding: chunked"),
    "chunks and length": ("Transfer-Encoding: chunked", "Content-Length: 4"),
    "two lengths": ("Content-Length: 0", f"Content-Length: {len(SMUGGLED)}"),
    "a list of lengths": (f"Content-Length: 0, {len(SMUGGLED)}",),
    "a signed length": ("Content-Length: +0",),
    "a negative length": ("Content-Length: -1",),
    "a hexadecimal length": ("Content-Length: 0x0",),
    "a length with a space": ("Content-Length : 0",),
    "a length beyond 64 bits": ("Content-Length: 18446744073709551616",),
    "chunked twice": ("Transfer-Encoding: chunked, chunked",),
    "chunked not last": ("Transfer-Encoding: chunked, identity",),
    "an unknown encoding": ("Transfer-Encoding: xchunked",),
    "chunked after a tab": ("Transfer-Encoding:\tchunked", "Content-Length: 4"),
    "a folded header": ("Transfer-Encoding:", " chunked", "Content-Length: 4"),
    "a bare line feed": ("X: y\nTransfer-Encoding: chunked", "Content-Length: 4"),
    "a bare carriage return": ("X: y\rTransfer-Encoding: chunked", "Content-Length: 4"),
    "a NUL": ("Transfer-Encoding: chunked\0", "Content-Length: 4"),
}


def test_no_request_hides_in_another(forge: Scene, thief: Thief) -> None:
    """What follows an ambiguous request on its connection is never answered."""
    with forge.attack("smuggled requests", thief, "") as row:
        for name, headers in AMBIGUOUS.items():
            for body in (SMUGGLED, b"0\r\n\r\n" + SMUGGLED, b"1;x\r\nx\r\n0\r\n\r\n" + SMUGGLED):
                found = answers(forge, request(POST, *headers, body=body), patience=1)
                row.tried((name, body[:20]), succeeded=200 in statuses(found))
        upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
        for headers in (upgrade, (*upgrade, "Sec-WebSocket-Key: x"), ("Upgrade: h2c",)):
            token = f"Authorization: Bearer {thief.runner.token}x"
            first = request("GET /runner/broker HTTP/1.1", *headers, token)
            found = answers(forge, first + SMUGGLED, patience=1)
            granted = 101 in statuses(found) or 200 in statuses(found)
            row.tried(headers, succeeded=granted and "h2c" not in headers[0])
    wait_for(lambda: "malformed_request: a request was refused" in forge.said(), "it is logged")


def test_a_request_without_an_end_takes_little_memory_and_is_refused(
    forge: Scene, thief: Thief
) -> None:
    """A first line, headers, a header, trailers, or the extension of a chunk that never end."""
    web = psutil.Process(forge.web.process.pid)
    before = web.memory_info().rss
    start = request(POST, "Transfer-Encoding: chunked")
    endless = {
        "first line": (b"GET /", b"x" * 65536),
        "method": (b"", b"G" * 65536),
        "header": (request("GET / HTTP/1.1")[:-2] + b"X: ", b"x" * 65536),
        "header name": (request("GET / HTTP/1.1")[:-2], b"x" * 65536),
        "headers": (request("GET / HTTP/1.1")[:-2], b"X: y\r\n" * 10000),
        "trailers": (start + b"0\r\n", b"X: y\r\n" * 10000),
        "chunk extension": (start + b"1;", b"x" * 65536),
        "chunks of one byte": (start, b"1\r\nx\r\n" * 10000),
    }
    with forge.attack("requests without an end", thief, "") as row:
        for name, (head, more) in endless.items():
            found = answers(forge, head, *[more] * 320)
            row.tried(name, succeeded=200 in statuses(found))
    grown = web.memory_info().rss - before
    print(f"\nthe web process grew by {grown / 1e6:.1f} MB")
    assert grown < 30e6


def test_slow_senders_keep_nobody_from_being_served(forge: Scene, thief: Thief) -> None:
    """Heads and bodies that come byte by byte, over many connections at once."""
    body = b'{"protocol": 1, "version": "0.1.0"}'
    length = f"Content-Length: {len(body)}"
    whole = request(POST, f"Authorization: Bearer {thief.runner.token}", length, body=body)
    with contextlib.ExitStack() as stack, forge.attack("slow senders", thief, "") as row:
        slow = [stack.enter_context(connection(forge)) for _ in range(SLOW_CONNECTIONS)]
        for turn in range(5):
            for number, sender in enumerate(slow):
                start = 0 if number % 2 else len(whole) - 20
                # A machine with much to do may take longer for a turn than Forge waits for a head.
                with contextlib.suppress(ConnectionError):
                    sender.sendall(
                        whole[:start] if not turn else whole[start + turn - 1 : start + turn]
                    )
            begun = time.monotonic()
            served = requests.get(f"{forge.web_url}/readyz", timeout=60).ok
            row.tried(f"turn {turn}", succeeded=not served)
            print(f"\nserved in {time.monotonic() - begun:.3f} s", end="")
        row.attempts += SLOW_CONNECTIONS


def test_hosts_methods_and_paths_play_no_tricks(forge: Scene, thief: Thief) -> None:
    token = f"Authorization: Bearer {thief.runner.token}"
    hosts = ["evil.example", "localhost:1@evil.example", "localhost, evil.example", "", "[::1"]
    paths = [
        "//evil.example/",
        "/\\evil.example",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/static/../../manage.py",
    ]
    paths += ["/static/%2e%2e/%2e%2e/manage.py", "/static/..%2fmanage.py", "/static//etc/passwd"]
    paths += ["/static/%00", "/%ff%fe", "/runner/v1/connect/", "/RUNNER/v1/connect", "/admin/..;/"]
    with forge.attack("hosts, methods, paths", thief, "") as row:
        for host in hosts:
            raw = f"GET /accounts/ HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Host: evil.example\r\n"
            found = answers(forge, f"{raw}Connection: close\r\n\r\n".encode())
            row.tried(host, succeeded=b"evil.example" in found.split(b"\r\n\r\n")[0])
        for path in paths:
            found = ask(forge, f"GET {path} HTTP/1.1", token)
            leaked = b"root:" in found or b"DJANGO_SETTINGS" in found or b": //evil" in found
            row.tried(path, succeeded=leaked or any(one >= 500 for one in statuses(found)))
        for method in ("TRACE", "CONNECT", "PRI", "SEARCH", "get", "X" * 200):
            found = ask(forge, f"{method} / HTTP/1.1", token)
            row.tried(method, succeeded=thief.runner.token.encode() in found)
        override = ("X-HTTP-Method-Override: DELETE", "X-HTTP-Method: DELETE", "_method: DELETE")
        number = forge.innocent.id
        for header in override:
            found = ask(forge, f"POST /api/v1/runners/{number}/ HTTP/1.1", header)
            row.tried(header, succeeded=any(one < 400 for one in statuses(found)))
        for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Forwarded-Proto"):
            thief.send("connect", {}, **{name: "6.6.6.6"})
            row.tried(name, succeeded="6.6.6.6" in forge.said())


def handshake(forge: Scene, thief: Thief, *more: str) -> socket.socket:
    """An open tunnel, as a bare socket."""
    sender = socket.create_connection(("127.0.0.1", forge.web_port), 30)
    headers = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", *more]
    headers += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    headers += [f"Authorization: Bearer {thief.runner.token}"]
    sender.sendall(request("GET /runner/broker HTTP/1.1", *headers))
    head = b""
    while b"\r\n\r\n" not in head:
        head += sender.recv(1)
    assert head.startswith(b"HTTP/1.1 101"), head
    # Whatever was offered, nothing is compressed.
    assert b"permessage-deflate" not in head.lower()
    return sender


def frame(
    opcode: int, payload: bytes, *, final: bool = True, mask: bool = True, rsv: int = 0
) -> bytes:
    first = (0x80 if final else 0) | rsv << 4 | opcode
    flag = 0x80 if mask else 0
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", first, flag | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, flag | 126, size)
    else:
        head = struct.pack("!BBQ", first, flag | 127, size)
    return head + (b"\0" * 4 if mask else b"") + payload


PING = b"*1\r\n$4\r\nPING\r\n"
TEXT, BINARY, CONTINUATION, CLOSE, PING_FRAME = 1, 2, 0, 8, 9
FRAMES: dict[str, list[bytes]] = {
    "not masked": [frame(BINARY, PING, mask=False)],
    "reserved bits": [frame(BINARY, PING, rsv=4)],
    "unknown opcode": [frame(5, PING)],
    "unknown control": [frame(11, b"")],
    "a continuation of nothing": [frame(CONTINUATION, PING)],
    "a message in a message": [frame(BINARY, b"*1", final=False), frame(BINARY, PING)],
    "a long control": [frame(PING_FRAME, b"x" * 126)],
    "a control in pieces": [frame(PING_FRAME, b"x", final=False)],
    "text that is not UTF-8": [frame(TEXT, b"\xff\xfe")],
    "a close of one byte": [frame(CLOSE, b"x")],
    "a close with a wrong code": [frame(CLOSE, struct.pack("!H", 1005))],
    "a message that is too large": [frame(BINARY, b"x" * 200_000)],
    "2^62 bytes announced": [struct.pack("!BBQ", 0x82, 0xFF, 2**62) + b"\0" * 4],
    "2^63 bytes announced": [struct.pack("!BBQ", 0x82, 0xFF, 2**63) + b"\0" * 4],
    "pieces without an end": [
        frame(BINARY, b"x" * 1000, final=False),
        *[frame(CONTINUATION, b"x" * 1000, final=False)] * 400,
    ],
    "HTTP after the handshake": [SMUGGLED],
}


def test_frames_that_break_the_rules_end_the_tunnel(forge: Scene, thief: Thief) -> None:
    with forge.attack("WebSocket frames", thief, "tunnel") as row:
        for name, sent in FRAMES.items():
            with handshake(forge, thief, "Sec-WebSocket-Extensions: permessage-deflate") as sender:
                found = _until_closed(sender, sent)
            row.tried(name, succeeded=b"PONG" in found or b"HTTP/1.1 2" in found)
        # And one that no worker sends, in pieces of one byte, for the log.
        with handshake(forge, thief) as sender:
            pieces = [frame(BINARY, bytes([one])) for one in b"*1\r\n$8\r\nFLUSHALL\r\n"]
            row.tried("by bytes", succeeded=b"+OK" in _until_closed(sender, pieces))


def _until_closed(sender: socket.socket, frames: list[bytes]) -> bytes:
    sender.settimeout(60)
    found = b""
    with contextlib.suppress(ConnectionError):
        for one in frames:
            sender.sendall(one)
        while data := sender.recv(65536):
            found += data
    return found


def test_the_same_key_twice_and_a_byte_order_mark_are_read_in_one_way(
    forge: Scene, thief: Thief
) -> None:
    """The last of two keys counts, for the check as for the use: there is one reading only."""
    body = json.dumps({"protocol": 1, "version": "0.1.0"})[:-1]
    with forge.attack("readings of one JSON", thief, "malformed") as row:
        for tail in (
            ', "protocol": -1}',
            ', "protocol": 1e3}',
            ', "protocol": "1"}',
            ', "\\u0070rotocol": []}',
        ):
            row.tried(tail, succeeded=thief.send("verify", (body + tail).encode()).ok)
        for start in (b"\xef\xbb\xbf\xef\xbb\xbf", b"\xff\xfe", b"/* */", b"'", b"\x00"):
            row.tried(start, succeeded=thief.send("verify", start + body.encode() + b"}").ok)


def test_a_head_that_never_ends_is_given_up(unfinished: list[socket.socket]) -> None:
    """Without a proxy too a connection is not held for ever; bytes now and then do not help."""
    for sender in unfinished:
        sender.settimeout(120)
        assert sender.recv(1000).startswith(b"HTTP/1.1 408")
