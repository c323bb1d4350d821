"""uvicorn's WebSocket protocol, with the bounds that it lacks."""

from __future__ import annotations

import logging
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

# One read of a runner's local socket; a larger message is no runner's.
MAXIMUM_MESSAGE_BYTES = 128 * 1024


_quiet = logging.getLogger("forge.websocket.uvicorn")
_quiet.setLevel(logging.WARNING)
# With a traceback, for each such message of a peer; it is closed for it, which is enough.
_quiet.addFilter(lambda record: not str(record.msg).startswith("Invalid UTF-8"))


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """Drops a peer that pings and does not read: its pongs would pile up in this process.

    Messages need no bound here: uvicorn stops reading until the application has taken one, and
    waits with sending while the peer's socket is full.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.logger = _quiet

    def handle_ping(self) -> None:
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.transport.abort()

    async def send(self, message: Any) -> None:
        """As uvicorn's. A handshake that was answered with a refusal counts as complete.

        It would otherwise log an error of the server's for every tunnel that is refused.
        """
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True
