"""uvicorn's HTTP protocol, with the bounds that it lacks.

A proxy in front usually has its own; this holds without one too. uvicorn keeps a request's head
whatever its size, waits for the rest of it for ever, and logs each malformed one by itself.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from runners.quotas import network_of
from runners.refusals import refusals

# What a request may have besides its body: first line, headers, what frames chunks, trailers.
MAXIMUM_HEAD_BYTES = 64 * 1024
# From the first byte, or the connection, to the end of the headers; and from there to the body's.
HEAD_SECONDS = 20.0
BODY_SECONDS = 120.0

_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
# What uvicorn warns of is refused here, and logged at a bounded rate.
_quiet = logging.getLogger("forge.http.uvicorn")
_quiet.setLevel(logging.ERROR)


class BoundedHttp(HttpToolsProtocol):
    """One connection; sizes in bytes, times in seconds."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.logger = _quiet
        self._overhead = 0
        self._body_in_feed = 0
        self._has_ended = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect_within(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._timer is None:
            self._expect_within(HEAD_SECONDS)
        self._body_in_feed, self._has_ended = 0, False
        super().data_received(data)
        if self._has_ended:
            self._overhead = 0
            self._expect_nothing()
            return
        self._overhead += len(data) - self._body_in_feed
        if self._overhead > MAXIMUM_HEAD_BYTES and not self.transport.is_closing():
            self._end(_TOO_LARGE, "its head is too large")

    def on_headers_complete(self) -> None:
        self._expect_within(BODY_SECONDS)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body_in_feed += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._has_ended = True
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        self._expect_nothing()
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        self._expect_nothing()
        self._log("it is not HTTP")
        super().send_400_response(msg)

    def _expect_within(self, seconds: float) -> None:
        self._expect_nothing()
        self._timer = self.loop.call_later(seconds, self._end, _TOO_SLOW, "it never ended")

    def _expect_nothing(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self, answer: bytes, why: str) -> None:
        """Refuse what is on its way; an answer that has begun is cut off."""
        self._expect_nothing()
        if self.transport.is_closing():
            return
        if self._overhead or self._body_in_feed:
            self._log(why)
        if self.cycle is None or not self.cycle.response_started:
            self.transport.write(answer)
        self.transport.close()

    def _log(self, why: str) -> None:
        network = network_of(self.client[0] if self.client else None)
        refusals.of_stranger(network, "malformed_request", f"a request was refused: {why}")
