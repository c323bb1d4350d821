"""The ASGI application, which `manage.py web` serves.

Four kinds of requests, each on the path that suits it:

- static files, from memory-mapped paths, without Django;
- live streams, which wait far more than they work, in the event loop;
- runners' broker tunnels, also in the event loop, without Django's request handling;
- all else, written as plain functions, in one hop to a thread. Django's own handler would hop
  once for every middleware, and would make a thread, and with it a database connection, for
  every request. Here both are kept and lent on (docs/performance.md has the figures).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import django
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.base import BaseHandler
from servestatic import ServeStaticASGI

from forge.heap import give_back_large_blocks
from forge.request_threads import KeptThreads

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "forge.settings")

STREAM_SUFFIX = "/stream"
# A log report has 1 MiB of bytes in base64, a script 200,000 characters.
MAXIMUM_BODY_BYTES = 4 * 1024 * 1024
TOO_LARGE = f"A request may have at most {MAXIMUM_BODY_BYTES} bytes. Send less at once."
# Django decodes with whatever codec a request names. Some take minutes for a small body.
UTF8 = (b"utf-8", b"utf8")
MAXIMUM_TYPE_BYTES = 256
NOT_UTF8 = "Text comes in UTF-8 here. Leave the charset out of Content-Type, or send utf-8."


class ThreadHandler(ASGIHandler):
    """Django's handler with the whole of a request, middleware and view, in one kept thread."""

    def __init__(self) -> None:
        BaseHandler.__init__(self)
        self.load_middleware(is_async=False)
        self._threads = KeptThreads()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        executor = self._threads.borrow()
        try:
            async with ThreadSensitiveContext(executor=executor):
                await self.handle(scope, receive, send)
        finally:
            self._threads.give_back(executor)

    async def run_get_response(self, request: Any) -> Any:
        return await sync_to_async(self.get_response)(request)


def _static_files(application: Any) -> ServeStaticASGI:
    """Serves what collectstatic gathered or, without that step, what the apps brought along."""
    prefix = settings.STATIC_URL
    server = ServeStaticASGI(
        application, autorefresh=settings.DEBUG, add_headers_function=_keep_to_the_type
    )
    if settings.STATIC_ROOT.is_dir():
        server.add_files(settings.STATIC_ROOT, prefix)
        return server
    for finder in get_finders():
        for storage in getattr(finder, "storages", {}).values():
            if Path(storage.location).is_dir():
                server.add_files(storage.location, prefix)
    return server


def _keep_to_the_type(headers: Any, path: str, url: str) -> None:
    """As all other answers do: no browser guesses what a file is."""
    headers["X-Content-Type-Options"] = "nosniff"


class BodyTooLargeError(Exception):
    """A request's body is larger than anything that is asked for."""


class BodyLimit:
    """Counts a request's body as it comes in and refuses what is larger than anything asked for.

    Django looks at the size only after it has written the whole body to a temporary file.
    """

    def __init__(self, scope: Any, receive: Any) -> None:
        lengths = [text for name, text in scope["headers"] if name == b"content-length"]
        if any(_size(text) > MAXIMUM_BODY_BYTES for text in lengths):
            raise BodyTooLargeError
        self._receive = receive
        self._left = MAXIMUM_BODY_BYTES

    async def receive(self) -> Any:
        """As the server's own. Raises BodyTooLargeError; nothing was answered then."""
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise BodyTooLargeError
        return message


def _size(text: bytes) -> int:
    return int(text) if text.isdigit() else MAXIMUM_BODY_BYTES + 1


def _is_in_utf8(scope: Any) -> bool:
    """Whether its type says so, or says nothing; also of a request that has no body."""
    types = [text.lower() for name, text in scope["headers"] if name == b"content-type"]
    if len(types) > 1 or any(len(text) > MAXIMUM_TYPE_BYTES for text in types):
        return False
    parts = [part.partition(b"=") for text in types for part in text.split(b";")[1:]]
    named = [(name.strip(), value.strip(b' "')) for name, _, value in parts]
    # `charset*` is another way to write it.
    return all(
        name == b"charset" and value in UTF8 for name, value in named if name.startswith(b"charset")
    )


async def _refuse(send: Any, status: int, code: str, sentence: str) -> None:
    body = json.dumps({"code": code, "message": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _tunnel(scope: Any, receive: Any, send: Any) -> None:
    """The one address that WebSockets are for."""
    if scope["path"] == tunnel.PATH:
        await tunnel.serve(scope, receive, send)
        return
    await receive()
    await send({"type": "websocket.close"})


class Application:
    """Sends each request down its path."""

    def __init__(self) -> None:
        self._streams = ASGIHandler()
        self._threads = ThreadHandler()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await _tunnel(scope, receive, send)
            return
        if scope["type"] != "http":
            raise ValueError(f"Only HTTP and WebSockets are served here, not {scope['type']}.")
        if not _is_in_utf8(scope):
            await _refuse(send, 415, "unsupported_media_type", NOT_UTF8)
            return
        handler = self._streams if scope["path"].endswith(STREAM_SUFFIX) else self._threads
        try:
            await handler(scope, BodyLimit(scope, receive).receive, send)
        except BodyTooLargeError:
            await _refuse(send, 413, "too_large", TOO_LARGE)


give_back_large_blocks()
django.setup(set_prefix=False)
from forge.http import BoundedHttp as BoundedHttp  # noqa: E402  # its models need the line above
from forge.websocket import BoundedWebSocket as BoundedWebSocket  # noqa: E402
from runners import tunnel  # noqa: E402

application = _static_files(Application())
