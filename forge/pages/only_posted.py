"""Addresses that a button posts to, and that a person may open all the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING

from django.contrib import messages
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

View = Callable[..., "HttpResponse"]
SENTENCE = "Nothing was changed yet. If your sign-in had ended in between, click again."


def only_posted(page: str) -> Callable[[View], View]:
    """As `require_POST`, but who comes by GET is led to the object's `page`, and told.

    So does whoever clicked after the session had ended: the sign-in leads on to the address, and
    cannot post again what was posted.
    """

    def decorator(view: View) -> View:
        @wraps(view)
        def posted(request: HttpRequest, pk: int) -> HttpResponse:
            if request.method == "POST":
                return view(request, pk)
            messages.warning(request, SENTENCE)
            return redirect(page, pk)

        decorated: View = require_http_methods(["GET", "HEAD", "POST"])(posted)
        return decorated

    return decorator
