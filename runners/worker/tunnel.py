"""The worker's end of the broker tunnel: a unix socket here, `wss://<forge>/runner/broker` there.

Celery's Redis client connects to the socket as if the broker listened there. Each of its
connections becomes one WebSocket, whose handshake carries the runner token; Forge signs in to the
broker with it, so no password is sent over the socket. Only this very process may connect to it.

Everything runs in one thread with an event loop of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import random
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from runners.worker.clearance import is_own_folder
from runners.worker.configuration import Configuration
from runners.worker.errors import BrokerError
from runners.worker.fields import printable
from runners.worker.protocol import BROKER_ACCOUNT_MISSING, LISTEN_ANEW
from runners.worker.supervision import remove_folder
from runners.worker.tls import context_for

logger = logging.getLogger(__name__)
# At the level DEBUG the library writes the handshake down, token and all.
_quiet = logging.getLogger(f"{__name__}.connection")
_quiet.setLevel(logging.INFO)

PATH = "/runner/broker"
SOCKET_NAME = "broker.sock"
# Linux allows 107 bytes, macOS 103; beyond that a folder of this process's own serves.
LONGEST_SOCKET_PATH = 100
READ_BYTES = 64 * 1024
HANDSHAKE_SECONDS = 10.0
# A connection that dies without a word, such as behind a firewall that forgot it, is noticed
# within the sum of these two, and a proxy in between never sees an idle connection.
PING_SECONDS = 20.0
PONG_SECONDS = 20.0
CLOSE_SECONDS = 1.0
# The pause before another try is random, below a share of how long Forge has been away.
SHORTEST_PAUSE = 0.3
LONGEST_PAUSE = 10.0
_UPGRADE_REFUSED = (200, 400, 404, 405, 426, 501)


class DialError(Exception):
    """No handshake came about; its cause says why."""


class Tunnel:
    """Opens the socket with `open`, closes everything with `close`. Thread-safe.

    `trouble` is the sentence about why the last handshake failed; empty once one succeeded.
    `is_account_missing` says whether that was because the broker lacks the runner's account. It
    goes to the log too while `is_logging`, and so does its end; before that it is for those who
    start the worker to say.
    """

    def __init__(
        self,
        configuration: Configuration,
        token: Callable[[], str],
        folder: Path,
        *,
        refused: Callable[[], None] = lambda: None,
    ) -> None:
        self._url = configuration.url.replace("http", "ws", 1) + PATH
        self._tls = context_for(configuration.trust) if self._url.startswith("wss:") else None
        self._token = token
        self._refused = refused
        self._own_folder: str | None = None
        self.path = self._choose_path(folder)
        self.trouble = ""
        self.is_account_missing = False
        self.is_logging = False
        self._is_logged = False
        self._away_since: float | None = None
        self._is_back = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        # Used in the thread only.
        self._open = set[ClientConnection]()
        self._asking = set[asyncio.Task[None]]()
        self._ending = asyncio.Event()
        self._is_deleted = asyncio.Event()
        self._is_listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name="forge-tunnel", daemon=True)

    def _choose_path(self, folder: Path) -> str:
        path = str(folder / SOCKET_NAME)
        if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
            return path
        self._own_folder = tempfile.mkdtemp(prefix="forge-")
        return os.path.join(self._own_folder, SOCKET_NAME)

    def open(self) -> None:
        """Listen on the socket. Raises BrokerError."""
        self._thread.start()
        self._is_listening.wait()
        if self.trouble:
            raise BrokerError(self.trouble, may_pass=False)

    def mend(self) -> None:
        """Listen anew if somebody has deleted the socket, as cleaners of temporary files do."""
        if self._thread.is_alive() and not os.path.exists(self.path):
            self._loop.call_soon_threadsafe(self._is_deleted.set)

    def wake(self) -> None:
        """Forge answers: whoever waits before another try need not wait any longer."""
        self._loop.call_soon_threadsafe(self._is_back.set)

    def listen_anew(self) -> None:
        """Have the BRPOP end that is under way: it knows nothing of queues that came since."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._ask_to_listen_anew)

    def close(self) -> None:
        """Close socket and tunnels, and end the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._ending.set)
            self._thread.join(2 * CLOSE_SECONDS)
        if self._own_folder is not None:
            remove_folder(os.fsencode(self._own_folder))

    # --- in the thread ---

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._listen())
        except OSError as error:
            self.trouble = self._unusable(error)
            self._is_listening.set()

    def _unusable(self, error: OSError) -> str:
        return f"The socket {self.path} cannot be opened: {error.strerror}."

    async def _listen(self) -> None:
        self._server = await self._open_socket()
        self._is_listening.set()
        mending = asyncio.create_task(self._mend())
        await self._ending.wait()
        mending.cancel()
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        Path(self.path).unlink(missing_ok=True)

    async def _open_socket(self) -> asyncio.AbstractServer:
        Path(self.path).unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._serve, self.path)
        os.chmod(self.path, 0o600)
        return server

    async def _mend(self) -> None:
        """A new socket each time that it was deleted; the tunnels that stand are not touched."""
        while await self._is_deleted.wait():
            self._is_deleted.clear()
            if os.path.exists(self.path):
                continue
            # First: it may delete what it takes for its own socket.
            self._server.close()
            try:
                self._make_folder()
                self._server = await self._open_socket()
            except OSError as error:
                self.trouble = self._unusable(error)
            else:
                logger.warning("The socket %s was deleted, and is made anew.", self.path)

    def _make_folder(self) -> None:
        """The one of the socket. In a folder for everybody, another user may have been quicker."""
        folder = Path(self.path).parent
        folder.mkdir(mode=0o700, exist_ok=True)
        if not is_own_folder(folder):
            raise PermissionError(errno.EPERM, "its folder belongs to somebody else")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of Celery's, from its beginning to its end."""
        try:
            if _is_own(writer.get_extra_info("socket")):
                upstream = await self._dial()
                async with upstream:
                    self._open.add(upstream)
                    try:
                        await _carry(reader, writer, upstream)
                    finally:
                        self._open.discard(upstream)
        except (InvalidHandshake, DialError) as error:
            # Celery sees a closed connection, and tries again for ever.
            self._note_trouble(error)
        except ConnectionClosed:
            self._note_absence()  # it worked before; the next handshake tells if it does not again
        except (OSError, asyncio.CancelledError):
            pass  # Celery has left, or the worker ends
        finally:
            writer.close()

    def _ask_to_listen_anew(self) -> None:
        for upstream in self._open:
            asking = self._loop.create_task(_ask(upstream))
            self._asking.add(asking)
            asking.add_done_callback(self._asking.discard)

    async def _dial(self) -> ClientConnection:
        """A new tunnel; after a failure, with a pause before it."""
        if self._away_since is not None:
            await self._pause(time.monotonic() - self._away_since)
        try:
            upstream = await self._connect()
        except (OSError, TimeoutError) as error:
            raise DialError from error
        self._note_success()
        return upstream

    async def _connect(self) -> ClientConnection:
        return await connect(
            self._url,
            additional_headers={"Authorization": f"Bearer {self._token()}"},
            ssl=self._tls,
            compression=None,
            open_timeout=HANDSHAKE_SECONDS,
            ping_interval=PING_SECONDS,
            ping_timeout=PONG_SECONDS,
            close_timeout=CLOSE_SECONDS,
            max_size=None,
            user_agent_header="forge-runner",
            logger=_quiet,
        )

    async def _pause(self, away_seconds: float) -> None:
        """Random, so that a thousand runners do not come back in the same instant."""
        longest = min(max(away_seconds / 2, SHORTEST_PAUSE), LONGEST_PAUSE)
        self._is_back.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._is_back.wait(), random.uniform(0, longest))  # noqa: S311
            await asyncio.sleep(random.uniform(0, SHORTEST_PAUSE))  # noqa: S311

    def _note_absence(self) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()

    def _note_success(self) -> None:
        self._away_since = None
        self.trouble = ""
        self.is_account_missing = False
        if self._is_logged:
            self._is_logged = False
            logger.warning("The broker tunnel stands again.")

    def _note_trouble(self, error: Exception) -> None:
        self._note_absence()
        self.is_account_missing = isinstance(error, InvalidStatus) and (
            _field(error, "code") == BROKER_ACCOUNT_MISSING
        )
        sentence = explain(self._url, error.__cause__ or error)
        if sentence != self.trouble:
            if self.is_logging:
                self._is_logged = True
                logger.warning("%s", sentence)
            self.trouble = sentence
        if isinstance(error, InvalidStatus) and error.response.status_code == 401:
            self._refused()


async def _ask(upstream: ClientConnection) -> None:
    with contextlib.suppress(ConnectionClosed):  # the next one listens to all of them
        await upstream.send(LISTEN_ANEW)


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream: ClientConnection
) -> None:
    """Carry bytes until either side ends.

    When Celery ends it, what comes until Forge has closed its side is still carried down: it may
    be a hint, which no longer waits anywhere else.
    """
    up = asyncio.create_task(_carry_up(reader, upstream))
    down = asyncio.create_task(_carry_down(upstream, writer))
    try:
        done, _ = await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        if down not in done:
            await upstream.close()
            await asyncio.wait((down,), timeout=CLOSE_SECONDS)
    finally:
        for task in (up, down):
            task.cancel()
        await asyncio.gather(up, down, return_exceptions=True)


async def _carry_up(reader: asyncio.StreamReader, upstream: ClientConnection) -> None:
    while data := await reader.read(READ_BYTES):
        await upstream.send(data)


async def _carry_down(upstream: ClientConnection, writer: asyncio.StreamWriter) -> None:
    while True:
        data = await upstream.recv(decode=False)
        writer.write(data)
        await writer.drain()


def _is_own(connection: socket.socket) -> bool:
    """Whether the peer is this process: a task of the same user must not use the tunnel."""
    if sys.platform != "linux":
        return True  # the folder's mode has to do
    credentials = connection.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
    )
    pid, _, _ = struct.unpack("3i", credentials)
    return bool(pid == os.getpid())


def explain(url: str, error: BaseException) -> str:
    """A sentence about a handshake that failed, which says what to do."""
    if isinstance(error, InvalidStatus):
        return _explain_status(url, error)
    if isinstance(error, TimeoutError):
        return f"The broker tunnel {url} did not answer in time. Check the network."
    detail = printable(str(error), 300) or type(error).__name__
    return f"The broker tunnel {url} cannot be opened ({detail}). Check the network and proxies."


def _explain_status(url: str, error: InvalidStatus) -> str:
    status = error.response.status_code
    if sentence := _field(error, "message"):
        return f"The broker tunnel {url} was refused: {sentence}"
    if status in _UPGRADE_REFUSED:
        return (
            f"{url} does not take WebSockets (HTTP {status}). Let the reverse proxy before Forge "
            "pass on the headers Upgrade and Connection."
        )
    return f"The broker tunnel {url} was refused (HTTP {status})."


def _field(error: InvalidStatus, name: str) -> str:
    """Of the JSON that Forge refuses with; empty in what somebody in between answers."""
    with contextlib.suppress(ValueError, AttributeError, TypeError, RecursionError):
        return printable(str(json.loads(error.response.body or b"").get(name, "")), 300)
    return ""
