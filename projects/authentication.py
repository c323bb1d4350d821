"""`Authorization: Bearer fgu_…` for the REST API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed

from projects.models import UserToken
from projects.tokens import USER_PREFIX, bearer_token

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from rest_framework.request import Request


class UserTokenAuthentication(BaseAuthentication):
    """Signs in the user whose token the request carries.

    Raises AuthenticationFailed (401) for a token that is unknown or expired.
    """

    def authenticate(self, request: Request) -> tuple[User, UserToken] | None:
        header = request.headers.get("Authorization", "")
        if not header:
            return None
        token = bearer_token(header, USER_PREFIX)
        now = timezone.now()
        row = UserToken.objects.valid(token, now=now) if token else None
        if row is None:
            raise AuthenticationFailed("The token is unknown, expired or not a user token (fgu_…).")
        row.note_use(now=now)
        return row.user, row

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="Forge"'
