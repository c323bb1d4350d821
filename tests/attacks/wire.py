"""The thief's ways to the broker: its port, with redis-py, and the tunnel, with a WebSocket."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import redis
import redis.connection
from redis.backoff import NoBackoff
from redis.retry import Retry
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.attacks.thief import Thief

Words = Sequence[str | bytes]


class Wire(Protocol):
    def ask(self, *words: str | bytes) -> str:
        """The answer to one command: `-` and the error's text, `closed`, or what was granted.

        `silent` if none came, as for the first half of a command.
        """

    def close(self) -> None: ...


class DirectWire:
    """One signed-in connection to the broker's port; another one when it was closed."""

    def __init__(self, port: int, thief: Thief, *, protocol: int = 2) -> None:
        self._connection = redis.connection.Connection(
            port=port,
            username=thief.account,
            password=thief.runner.token,
            protocol=protocol,
            socket_timeout=60.0,
            retry=Retry(NoBackoff(), 0),
        )

    def wait_no_longer_than(self, seconds: float) -> None:
        """For answers on the connection that is open: there may be none to come."""
        connection: Any = self._connection
        connection._sock.settimeout(seconds)

    def ask(self, *words: str | bytes) -> str:
        return self.ask_many([words])[0]

    def ask_many(self, commands: Sequence[Words]) -> list[str]:
        """In one write, as a pipeline does."""
        try:
            # redis-py would split the first word, and send nothing if it is empty.
            self.send(b"".join(command(*words) for words in commands))
        except (redis.ConnectionError, OSError):
            return ["closed"] * len(commands)
        return [self.read() for _ in commands]

    def send(self, data: bytes) -> None:
        self._connection.send_packed_command([data])  # type: ignore[no-untyped-call]

    def read(self) -> str:
        try:
            return repr(self._connection.read_response())
        except redis.exceptions.NoPermissionError as error:
            return f"-NOPERM {error}"
        except redis.exceptions.AuthenticationError as error:
            return f"-WRONGPASS {error}"
        except redis.ResponseError as error:
            return f"-{error}"
        except redis.TimeoutError:
            self.close()
            return "silent"
        except (redis.RedisError, OSError):
            self.close()
            return "closed"

    def close(self) -> None:
        self._connection.disconnect()


def command(*arguments: str | bytes) -> bytes:
    raw = [part.encode() if isinstance(part, str) else part for part in arguments]
    parts = [b"$%d\r\n%s\r\n" % (len(argument), argument) for argument in raw]
    return b"*%d\r\n%s" % (len(parts), b"".join(parts))


def dial(url: str, token: str | None, **options: Any) -> ClientConnection:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    connection: ClientConnection = connect(
        url.replace("http", "ws", 1) + "/runner/broker",
        additional_headers=headers,
        compression=None,
        proxy=None,
        open_timeout=60,
        **options,
    )
    return connection


class TunnelWire:
    """One tunnel; another one when it was closed.

    `another` gives the thief of a further runner, for when this one has dialled too often.
    """

    def __init__(self, thief: Thief, another: Callable[[], Thief]) -> None:
        self._thief = thief
        self._another = another
        self._connection: ClientConnection | None = None

    def ask(self, *words: str | bytes) -> str:
        if self._connection is None:
            self._connection = self._dial()
        try:
            self._connection.send(command(*words))
            answer = self._connection.recv(timeout=30)
        except ConnectionClosed:
            self.close()
            return "closed"
        assert isinstance(answer, bytes)
        return answer.decode(errors="backslashreplace")

    def _dial(self) -> ClientConnection:
        try:
            return dial(self._thief.url, self._thief.runner.token, legacy=True)
        except InvalidStatus as refused:
            # 503 where signing in at the broker took longer than it may, on a busy machine.
            assert refused.response.status_code in (429, 503)
            self._thief = self._another()
            return dial(self._thief.url, self._thief.runner.token, legacy=True)

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.close()
        self._connection = None
