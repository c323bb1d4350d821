"""The content security policy of Forge's pages.

Nothing comes from another host, no script and no style stands in the markup; the same holds for
the admin and the API's documentation, which are other people's pages and also draw small pictures
from `data:` (tests/pages/test_pages_in_chromium.py opens all of them).
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
OTHERS = f"default-src 'self'; img-src 'self' data:; style-src 'self'; script-src 'self'; {_COMMON}"
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
