"""Marks of browsers in which somebody has signed in before, which only Forge can make.

A mark is for one account, and for as long as it has the password with which it was made: a thief
of one, or of many, has nothing of them once the password is another. A browser keeps the last few,
so that a console that several people share knows all of them.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, NamedTuple

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core import signing
from django.utils.crypto import constant_time_compare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.contrib.auth.models import User
    from django.http import HttpRequest, HttpResponse

COOKIE = "forge_device"
MARK_SECONDS = 365 * 24 * 3600
# Each takes some 150 characters; a browser takes 4,096 for a cookie.
MOST_MARKS = 5
_SALT = "forge.device"
# Stands in no signed text.
_APART = "."


class _Mark(NamedTuple):
    account: int
    own: str
    proof: str
    text: str


def mark_of(request: HttpRequest, name: str) -> str:
    """What tells this browser from all others, if the account of this user name has signed in with
    it, and has had the same password since; otherwise empty.
    """
    marks = list(_marks(request))
    if not marks or "\0" in name:
        return ""
    account = get_user_model().objects.filter(username=name, is_active=True).first()
    return "" if account is None else _own(marks, account)


def remember(request: HttpRequest, answer: HttpResponse, account: User) -> None:
    """Mark the browser that is answered as one in which this account has signed in."""
    marks = list(_marks(request))
    own = _own(marks, account) or secrets.token_urlsafe(16)
    text = signing.dumps([account.pk, own, next(_proofs(account))], salt=_SALT)
    others = [mark.text for mark in marks if mark.account != account.pk]
    answer.set_cookie(
        COOKIE,
        _APART.join([text, *others][:MOST_MARKS]),
        max_age=MARK_SECONDS,
        path=request.path,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )


def _marks(request: HttpRequest) -> Iterator[_Mark]:
    """Those that Forge has made, each signed by itself: none lasts longer because of another."""
    for text in request.COOKIES.get(COOKIE, "").split(_APART)[:MOST_MARKS]:
        try:
            account, own, proof = signing.loads(text, salt=_SALT, max_age=MARK_SECONDS)
        except (signing.BadSignature, ValueError, TypeError):
            continue
        yield _Mark(account, str(own), str(proof), text)


def _own(marks: list[_Mark], account: User) -> str:
    proofs = list(_proofs(account))
    for mark in marks:
        fits = (constant_time_compare(mark.proof, proof) for proof in proofs)
        if mark.account == account.pk and any(fits):
            return mark.own
    return ""


def _proofs(account: User) -> Iterator[str]:
    """What only this password gives; then the same by each older key of the installation."""
    for hashed in (account.get_session_auth_hash(), *account.get_session_auth_fallback_hash()):
        yield hashlib.sha256(f"{_SALT}:{hashed}".encode()).hexdigest()[:32]
