"""What Forge answers, and what it logs, while its database is away."""

from __future__ import annotations

import logging
import sys
from http import HTTPStatus

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.views.defaults import server_error

from projects.outage import RETRY_AFTER_SECONDS, SENTENCE, is_outage

_JSON_PATHS = ("/api/", "/runner/")


def answer_to_failure(request: HttpRequest) -> HttpResponse:
    """Django's `handler500`, called while the error is being handled: 503 for an outage."""
    if not is_outage(sys.exc_info()[1]):
        return server_error(request)
    answer: HttpResponse
    status = HTTPStatus.SERVICE_UNAVAILABLE
    if request.path.startswith(_JSON_PATHS):
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
