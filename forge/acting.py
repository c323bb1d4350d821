"""Tells the audit log who acts in a request: one middleware for pages, API and admin."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from projects.audit.actor import Actor, Way, acting
from projects.models import UserToken
from runners.endpoint import address_of

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase


def actor_in_requests(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware. Who it is becomes clear later: a sign-in or a token says so, in the view."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        with acting(lambda: actor_of(request)):
            return get_response(request)

    return middleware


def actor_of(request: HttpRequest) -> Actor:
    """Who acts in this request as far as it is known by now."""
    user = getattr(request, "user", None)
    is_known = user is not None and user.is_authenticated
    # Where the REST framework found a token, it has put it here.
    token = getattr(request, "auth", None)
    return Actor(
        _way_of(request, token),
        name=user.get_username() if user is not None and is_known else "nobody",
        user_id=user.pk if user is not None and is_known else None,
        means=token.name if isinstance(token, UserToken) else "",
        address=address_of(request),
    )


def _way_of(request: HttpRequest, token: object) -> Way:
    if isinstance(token, UserToken):
        return Way.API_TOKEN
    if request.path.startswith("/api/"):
        return Way.API_SESSION
    return Way.ADMIN if request.path.startswith("/admin/") else Way.PAGE
