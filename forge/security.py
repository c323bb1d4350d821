"""The content security policy of Forge's pages.

Nothing comes from another host, no script and no style stands in the markup. The admin and the
API's documentation are other people's pages and have scripts of their own, also only from here.
"""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

_COMMON = "base-uri 'none'; frame-ancestors 'none'; form-action 'self'; object-src 'none'"
PAGES = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    f"connect-src 'self'; {_COMMON}"
)
OTHERS = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    f"script-src 'self'; {_COMMON}"
)
_OTHER_PATHS = ("/admin/", "/api/")


def content_security_policy(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware: every answer carries the policy of its path."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        policy = OTHERS if request.path.startswith(_OTHER_PATHS) else PAGES
        response.headers.setdefault("Content-Security-Policy", policy)
        return response

    return middleware
