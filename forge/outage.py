"""What Forge answers, and what it logs, while its database is away."""

from __future__ import annotations

import logging
import sys
import time
from http import HTTPStatus

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.views.defaults import server_error

from projects.outage import RETRY_AFTER_SECONDS, SENTENCE, is_outage

# How long the pool of connections is silent about what it has just said, in seconds.
QUIET_SECONDS = 60.0
JSON_PATHS = ("/api/", "/runner/")


def answer_to_failure(request: HttpRequest) -> HttpResponse:
    """Django's `handler500`, called while the error is being handled: 503 for an outage."""
    if not is_outage(sys.exc_info()[1]):
        return server_error(request)
    answer: HttpResponse
    status = HTTPStatus.SERVICE_UNAVAILABLE
    if request.path.startswith(JSON_PATHS):
        answer = JsonResponse({"code": "unavailable", "message": SENTENCE}, status=status)
    else:
        answer = HttpResponse(render_to_string("503.html"), status=status)
    answer["Retry-After"] = RETRY_AFTER_SECONDS
    return answer


class OutageInOneLine(logging.Filter):
    """Keeps one traceback a request from burying everything else while the database is away."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if is_outage(error):
            record.levelno, record.levelname = logging.WARNING, "WARNING"
            record.msg = f"{record.getMessage()}: {' '.join(str(error).split())}"
            record.args = ()
            record.exc_info = record.exc_text = None
        return True


class OnceAMinute(logging.Filter):
    """For the pool of connections, which tells of each of its tries, several a second: of each kind
    of news one line a minute, in which the reason stands.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now - self._said.get(record.msg, -QUIET_SECONDS) < QUIET_SECONDS:
            return False
        self._said[record.msg] = now
        record.msg, record.args = " ".join(record.getMessage().split()), ()
        return True
