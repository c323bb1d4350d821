"""Forms that cannot be read are refused before anything else tries to read them.

Django reads a form while it looks for the CSRF token. What fails there fails once more in the page
that tells of it, ends as an error 500 without any header, and leaves 50 KB of traceback in the
log: strangers could fill a disk.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING

from django.core.exceptions import BadRequest, SuspiciousOperation
from django.http import HttpResponse, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from django.template.loader import render_to_string

from forge.outage import JSON_PATHS
from runners.endpoint import address_of
from runners.quotas import network_of
from runners.refusals import refusals

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

# A charset that Python knows and that is none for text raises LookupError, or what it likes.
_UNREADABLE = (BadRequest, MultiPartParserError, SuspiciousOperation, LookupError, ValueError)


def readable_forms(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware, the innermost: its answers carry the headers of all others."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        # There bodies are JSON, read with limits and answers of their own.
        reason = "" if request.path.startswith(JSON_PATHS) else _why_not(request)
        if not reason:
            return get_response(request)
        refusals.of_stranger(network_of(address_of(request)), "unreadable_form", reason)
        return HttpResponse(render_to_string("400.html"), status=HTTPStatus.BAD_REQUEST)

    return middleware


def _why_not(request: HttpRequest) -> str:
    """Why the form of a request cannot be read; empty if it can."""
    try:
        _ = request.POST
    except UnreadablePostError:
        return ""  # whoever sent it is gone: the view's own business
    except _UNREADABLE as error:
        return f"{request.path}: {error}"
    return ""
