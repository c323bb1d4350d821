"""Long answers, sent as they are made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db import close_old_connections

if TYPE_CHECKING:
    from django.http import HttpRequest


def streamed(
    request: HttpRequest, pieces: Iterator[bytes]
) -> Iterator[bytes] | AsyncIterator[bytes]:
    """What a streaming response to `request` takes to send the pieces one by one.

    Under ASGI Django would collect a synchronous iterator in memory before sending it.
    """
    return _hopping(pieces) if isinstance(request, ASGIRequest) else pieces


async def _hopping(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Read each piece in the request's own thread, and only when the client has taken the last."""
    while (piece := await sync_to_async(_next)(pieces)) is not None:
        yield piece


def _next(pieces: Iterator[bytes]) -> bytes | None:
    try:
        return next(pieces, None)
    finally:
        # A slow reader must not keep one of the pool's connections between two pieces.
        close_old_connections()
