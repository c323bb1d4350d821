"""The broker's side of the worker's connection, in spite of what lies in a queue."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar

from kombu.exceptions import OperationalError
from kombu.transport import redis
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import NoPermissionError, RedisError

logger = logging.getLogger(__name__)

# What kombu and Celery raise where a message is none, or lacks what they take for granted.
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
_KOMBUS_ERRORS = redis.Transport.connection_errors
LOST = "the connection was lost before"
# What kombu says in terms of its own when it waits for an answer no longer, and what is said here.
SILENCE = {
    "Redis BRPOP got no reply for %.0f seconds; dropping stale connection": (
        "The broker has not answered for %.0f seconds. It is connected to anew."
    ),
    "Redis pub/sub connection missed %d health check responses; dropping stale connection": (
        "The broker has not answered %d times when it was asked. It is connected to anew."
    ),
}


class RunnerChannel(redis.Channel):  # type: ignore[misc]
    """Passes over what is no message, and over a refusal.

    Nobody but Forge and the broker's administrator can write to a runner's queue, but an entry
    that kombu cannot read would otherwise end the worker, and the next one after it; so would what
    is no message on the control channel, over which Flower asks. A queue is refused in the moment
    in which the runner has lost it and its worker does not know.
    """

    refused: ClassVar[Callable[[], None]] = staticmethod(lambda: None)

    def __init__(self, connection: Any, *arguments: Any, **options: Any) -> None:
        self._transport = connection
        super().__init__(connection, *arguments, **options)
        # Within one connection what kombu takes for its loss: it hangs up then, and an answer is
        # no reason to.
        self.connection_errors = _KOMBUS_ERRORS

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        if self._transport.client is None:
            # kombu has closed it, and Celery's steps take their leave only now.
            raise LostError(LOST)
        found: dict[str, Any] = super()._connparams(asynchronous)  # type: ignore[misc]
        found["connection_class"] = _ending_with(self._transport, found["connection_class"])
        return found

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # the stubs lack it
        except NoPermissionError:
            RunnerChannel.refused()
            return True
        except _UNREADABLE as error:
            name = type(error).__name__
            logger.warning("An entry of a queue is no hint of Forge's and was dropped (%s).", name)
            return True

    def _receive_one(self, client: Any) -> Any:
        try:
            return super()._receive_one(client)  # type: ignore[misc]
        except _UNREADABLE as error:
            name = type(error).__name__
            logger.warning("What came over the control channel is no command (%s).", name)
            return True


def _ending_with(transport: Any, base: type[Any]) -> type[Any]:
    """A connection that is not made anew once its transport is given up."""

    class Ending(base):  # type: ignore[misc]  # which one depends on the address
        def connect(self, *arguments: Any, **options: Any) -> Any:
            if getattr(transport, "is_given_up", False):
                raise LostError(LOST)
            return super().connect(*arguments, **options)

    return Ending


def give_up(connection: Any) -> None:
    """Let nothing more be said over a connection of kombu's that was lost.

    Celery's steps take leave, each by commands of its own: to a broker that is silent each of them
    would wait for an answer, a minute and more before the first try to come back.
    """
    transport = connection._transport
    if transport is None:
        return
    transport.is_given_up = True
    for channel in [*transport.channels, *transport._avail_channels]:
        with suppress(Exception):
            channel._disconnect_pools()


def cut(connection: Any) -> None:
    """As `give_up`, from any thread: whoever waits for an answer over it waits no longer.

    Closing a socket wakes nobody who reads from it, and its number may be another's at once.
    """
    transport = connection._transport if connection is not None else None
    if transport is None:
        return
    transport.is_given_up = True
    for channel in [*transport.channels, *transport._avail_channels]:
        for pool in filter(None, (channel._pool, channel._async_pool)):
            for one in [*pool._available_connections, *pool._in_use_connections.copy()]:
                with suppress(Exception):
                    # Not the method of a TLS socket, which would begin to talk.
                    socket.socket.shutdown(one._sock, socket.SHUT_RDWR)


def in_plain_words(record: logging.LogRecord) -> bool:
    """A filter for kombu's log: it lets everything pass, in other words where there are some."""
    record.msg = SILENCE.get(record.msg, record.msg)
    return True


def use() -> None:
    """For every connection that this process opens: Celery has no setting for it.

    Celery ends a worker at an error that its transport does not call a lost connection. A broker
    that answers with errors, because it has become a replica or has no memory left, is one that
    is tried again.
    """
    redis.logger.addFilter(in_plain_words)
    redis.Transport.Channel = RunnerChannel
    redis.Transport.connection_errors = (*_KOMBUS_ERRORS, RedisError, OperationalError)
