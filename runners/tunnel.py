"""`wss://…/runner/broker`: one port is enough. Carries a runner's broker connection.

A byte tunnel (DESIGN D9): the handshake carries the runner token, Forge signs in to the broker
with it as the runner's own account, and then commands go one way and replies the other. The
broker's account decides what is allowed; the tunnel bounds how much of it (an account has no
quota), and lets nothing through that could change who the connection is signed in as.

Lives in the event loop. One tunnel is one WebSocket, one broker connection and two coroutines.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any, NamedTuple

import redis
from django.conf import settings
from django.db import connections
from django.utils import timezone

from projects.tokens import RUNNER_PREFIX, bearer_token
from runners import quotas
from runners.broker import administrator, place_of
from runners.commands import CommandReader
from runners.contact import MISSING, UNREACHABLE
from runners.endpoint import address_in
from runners.errors import RunnerQuarantinedError, TunnelAbusedError, TunnelRefusedError
from runners.models import Runner, RunnerToken
from runners.quotas import Quota
from runners.refusals import refusals
from runners.worker.protocol import BROKER_ACCOUNT_MISSING, LISTEN_ANEW

logger = logging.getLogger(__name__)

PATH = "/runner/broker"
SIGN_IN_SECONDS = 5.0
READ_BYTES = 64 * 1024
# A worker holds about six; a restarted one overlaps with its predecessor's.
MAXIMUM_TUNNELS = 16
# An answer to SMEMBERS may be much larger than the question; a worker asks when it answers
# Flower, a few times in five seconds.
LARGE_ANSWERS_PER_SECOND = 20.0
# What a frame takes of the allowance beside its bytes: many of one byte keep the event loop busy
# as well. A worker sends a frame for each of its commands.
FRAME_COST_BYTES = 1024
# Of HELLO's answer: what stands in it beside the connection's number is of no use here.
MAXIMUM_HELLO_LINES = 200
# A worker asks when its queues have changed, and each time another thread asks the broker.
UNBLOCK_SECONDS = 0.5
# How a broker begins that knows no such account, or another token for it.
NO_ACCOUNT = ("WRONGPASS", "NOAUTH")
UNAUTHORIZED = 401
CLOSED_BY_BROKER = 1012  # "service restart": come back
CLOSED_FOR_ABUSE = 1008  # "policy violation"

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


# What all tunnels of one runner may send together, as seen from this process. It outlives them:
# whoever comes back begins with the debts of before.
sent_bytes = Quota("FORGE_TUNNEL_BYTES_PER_SECOND", burst_seconds=4)
large_answers = Quota(LARGE_ANSWERS_PER_SECOND, burst_seconds=5)

# How many tunnels each runner holds; used in the event loop only.
_held: Counter[int] = Counter()


@contextlib.contextmanager
def _counted(runner: Runner) -> Iterator[None]:
    """Count this tunnel. Raises TunnelRefusedError when the runner has too many."""
    if _held[runner.pk] >= MAXIMUM_TUNNELS:
        sentence = f"A runner may hold {MAXIMUM_TUNNELS} broker connections."
        refusals.of_runner(runner, "too_many_tunnels", sentence, level=logging.WARNING)
        raise TunnelRefusedError(429, "too_many_tunnels", sentence)
    _held[runner.pk] += 1
    try:
        yield
    finally:
        _held[runner.pk] -= 1
        if not _held[runner.pk]:
            del _held[runner.pk]


async def serve(scope: Scope, receive: Receive, send: Send) -> None:
    """One tunnel, from its handshake to its end (an ASGI application for WebSockets)."""
    await receive()  # websocket.connect
    try:
        token = _token_of(scope)
        runner = await asyncio.to_thread(_runner_of, token)
        with _counted(runner):
            connection = await _sign_in(runner, token)
            try:
                await send({"type": "websocket.accept"})
                await Tunnel(runner, connection).run(receive, send)
            finally:
                connection.writer.close()
    except TunnelRefusedError as refusal:
        if refusal.status == UNAUTHORIZED:
            refusal = _of_stranger(scope, refusal)
        await _refuse(send, refusal)


def _of_stranger(scope: Scope, refusal: TunnelRefusedError) -> TunnelRefusedError:
    """As it is, or another one for an address from which too many wrong tokens come."""
    address = address_in(scope.get("client"), scope["headers"])
    network = quotas.network_of(address)
    wait = quotas.wrong_tokens.wait_before(network)
    if wait:
        sentence = "Too many requests with a wrong token came from your address."
        refusal = TunnelRefusedError(429, "too_many_requests", sentence, retry_after=wait)
    refusals.of_stranger(network, refusal.code, "at the broker tunnel")
    return refusal


def _token_of(scope: Scope) -> str:
    headers = {name: text for name, text in scope["headers"] if name == b"authorization"}
    header = headers.get(b"authorization", b"").decode("latin-1")
    token = bearer_token(header, RUNNER_PREFIX)
    if token is None or not token.isascii():
        raise _unauthorized()
    return token


def _unauthorized() -> TunnelRefusedError:
    return TunnelRefusedError(401, "unauthorized", "The runner token is unknown or was revoked.")


def _runner_of(token: str) -> Runner:
    try:
        row = RunnerToken.objects.find(token)
    finally:
        # A thread of the loop's own executor: no request ends here that would give it back.
        connections.close_all()
    now = timezone.now()
    if row is None or not row.is_valid(now=now) or row.runner.removed_at is not None:
        raise _unauthorized()
    _charge_handshake(row.runner)
    if row.runner.is_quarantined(now=now):
        raise TunnelRefusedError(503, "quarantined", str(RunnerQuarantinedError(row.runner)))
    return row.runner


def _charge_handshake(runner: Runner) -> None:
    """A handshake is a request of the runner as any other. Raises TunnelRefusedError."""
    wait = quotas.requests.wait_before((runner.pk, PATH))
    if wait:
        sentence = (
            f"Runner {runner.name} may open {quotas.requests.rate:g} broker connections a second. "
            f"Try again in {math.ceil(wait)} s."
        )
        refusals.of_runner(runner, "too_many_requests", sentence, level=logging.WARNING)
        raise TunnelRefusedError(429, "too_many_requests", sentence, retry_after=wait)


class BrokerConnection(NamedTuple):
    """`number`: the broker's for it; 0 if it has not said."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int


async def _sign_in(runner: Runner, token: str) -> BrokerConnection:
    """A broker connection that is signed in as the runner. Raises TunnelRefusedError."""
    # Whatever goes wrong, no connection is left to a broker that may hang for long.
    with contextlib.ExitStack() as undone:
        try:
            async with asyncio.timeout(SIGN_IN_SECONDS):
                reader, writer = await _connect()
                undone.callback(writer.close)
                account = runner.account.encode()
                # As AUTH, but the answer has the connection's number, which the account may not
                # ask for. The second version of the protocol is what AUTH leaves too.
                writer.write(_command(b"HELLO", b"2", b"AUTH", account, token.encode()))
                answer = await reader.readline()
                number = await _number_in(answer, reader)
        except (OSError, EOFError, ValueError) as error:
            why = str(error) or f"no answer within {SIGN_IN_SECONDS:g} s"
            logger.warning("tunnel of runner %s: the broker is away: %s", runner.name, why)
            raise TunnelRefusedError(503, "broker_unavailable", UNREACHABLE) from error
        if number is None:
            raise _refused_by_broker(runner, answer)
        undone.pop_all()
    return BrokerConnection(reader, writer, number)


async def _number_in(answer: bytes, reader: asyncio.StreamReader) -> int | None:
    """Read the rest of the broker's greeting: names and values, one after the other.

    None if it is a refusal. Raises OSError for what is no greeting.
    """
    if not answer.startswith(b"*"):
        return None
    number, is_next, left = 0, False, int(answer[1:])
    for _ in range(MAXIMUM_HELLO_LINES):
        if not left:
            return number
        line = await reader.readline()
        kind, value = line[:1], line[1:].strip()
        left -= 1
        if kind == b"*":
            left += max(0, int(value))
        elif kind == b"$" and int(value) >= 0:  # less is nothing at all
            found = await reader.readexactly(int(value) + 2)
            is_next = found.strip() == b"id"
        elif is_next:
            number, is_next = int(value), False
    raise OSError("the broker's greeting has no end")


def _refused_by_broker(runner: Runner, answer: bytes) -> TunnelRefusedError:
    """By its answer to the sign-in; one that hangs up without a word is away."""
    said = answer.decode("ascii", "backslashreplace").strip().removeprefix("-").rstrip(".")
    logger.warning("tunnel of runner %s: the broker refuses: %s", runner.name, said or "no answer")
    if not said:
        return TunnelRefusedError(503, "broker_unavailable", UNREACHABLE)
    if said.startswith(NO_ACCOUNT):
        return TunnelRefusedError(
            503,
            BROKER_ACCOUNT_MISSING,
            f"{MISSING} The controller restores it within seconds, if it runs.",
        )
    sentence = f"The broker refuses: {said}. Whoever runs Forge has to see to it."
    return TunnelRefusedError(503, "broker_refuses", sentence)


async def _connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    place = place_of(settings.REDIS_URL)
    if place.socket:
        return await asyncio.open_unix_connection(place.socket)
    return await asyncio.open_connection(place.host, place.port, ssl=place.tls)


def _command(*arguments: bytes) -> bytes:
    parts = [b"$%d\r\n%s\r\n" % (len(argument), argument) for argument in arguments]
    return b"*%d\r\n%s" % (len(parts), b"".join(parts))


async def _refuse(send: Send, refusal: TunnelRefusedError) -> None:
    """Answer the handshake as any other request of a runner (ASGI: WebSocket denial response)."""
    body = json.dumps({"code": refusal.code, "message": str(refusal)}).encode()
    headers = [(b"content-type", b"application/json")]
    if refusal.retry_after:
        headers.append((b"retry-after", b"%d" % math.ceil(refusal.retry_after)))
    start = {"type": "websocket.http.response.start", "status": refusal.status}
    await send({**start, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})


def _unblock(number: int) -> None:
    """The BRPOP of this connection ends as if its time were over; nothing is lost by that."""
    with contextlib.suppress(redis.RedisError):
        administrator().client_unblock(number)


class Tunnel:
    """An open tunnel of one runner."""

    def __init__(self, runner: Runner, connection: BrokerConnection) -> None:
        self._runner = runner
        self._reader, self._writer, self._number = connection
        self._unblocks_at = 0.0

    async def run(self, receive: Receive, send: Send) -> None:
        """Carry bytes until either side ends."""
        down = asyncio.create_task(self._carry_down(send))
        up = asyncio.create_task(self._carry_up(receive))
        try:
            await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
            await self._close(send, up if up.done() else down)
        finally:
            for one in (up, down):
                one.cancel()
            await asyncio.gather(up, down, return_exceptions=True)

    async def _close(self, send: Send, ended: asyncio.Task[bool]) -> None:
        """Say why, unless it was the other side that left."""
        error = ended.exception()
        if isinstance(error, TunnelAbusedError):
            detail = f"its tunnel was closed: {error}"
            refusals.of_runner(self._runner, "tunnel", detail, level=logging.WARNING)
            await self._send_close(send, CLOSED_FOR_ABUSE, str(error))
        elif error is not None or ended.result():
            await self._send_close(send, CLOSED_BY_BROKER, "The broker closed the connection.")

    async def _send_close(self, send: Send, code: int, reason: str) -> None:
        # The peer may be gone already; servers say so in errors of their own.
        with contextlib.suppress(Exception):
            await send({"type": "websocket.close", "code": code, "reason": reason[:120]})

    async def _carry_up(self, receive: Receive) -> bool:
        """Commands to the broker; False when the runner has left."""
        commands = CommandReader()
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return False
            data = message.get("bytes") or b""
            found = commands.feed(data)
            await self._pay(len(data) + FRAME_COST_BYTES, found)
            if message.get("text") == LISTEN_ANEW:
                await self._unblock()
            self._writer.writelines(one.raw for one in found)
            await self._writer.drain()

    async def _unblock(self) -> None:
        await asyncio.sleep(max(0.0, self._unblocks_at - time.monotonic()))
        self._unblocks_at = time.monotonic() + UNBLOCK_SECONDS
        if self._number:
            await asyncio.to_thread(_unblock, self._number)

    async def _pay(self, size: int, found: list[Any]) -> None:
        """Slow the sender down to its allowance: what is not read waits on the runner's host."""
        large = sum(one.name == b"SMEMBERS" for one in found)
        debts = [sent_bytes.debt_after(self._runner.pk, size)]
        debts.append(large_answers.debt_after(self._runner.pk, large))
        if max(debts) > 0:
            await asyncio.sleep(max(debts))

    async def _carry_down(self, send: Send) -> bool:
        """Replies to the runner; True when the broker has closed the connection."""
        while data := await self._reader.read(READ_BYTES):
            await send({"type": "websocket.send", "bytes": data})
        return True
