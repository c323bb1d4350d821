"""Signing in and out, and how often somebody may be wrong about a password.

Who guesses is slowed down, and nobody can lock somebody else out: a browser in which an account
has signed in before carries a mark that only Forge can make, and is counted by itself. Whatever
others try, from wherever, the account's owner comes in from there at once.
"""

from __future__ import annotations

import math
import secrets
import threading
import unicodedata
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.views import LoginView, LogoutView
from django.core import signing
from django.db import close_old_connections, transaction

from projects.audit.entry import Kind, Verb
from projects.audit.recording import record, record_event
from runners.endpoint import address_of
from runners.quotas import Quota, network_of
from runners.refusals import refusals

if TYPE_CHECKING:
    from collections.abc import Hashable

    from django.contrib.auth.forms import AuthenticationForm
    from django.http import HttpRequest, HttpResponse

MARK = "forge_device"
MARK_SECONDS = 365 * 24 * 3600
_SALT = "forge.device"
MAXIMUM_NAME = 150

# Ten wrong passwords at once and then one every ten seconds; of one address five times as many.
per_account = Quota("FORGE_WRONG_PASSWORDS_PER_SECOND", burst_seconds=100)
per_address = Quota("FORGE_WRONG_PASSWORDS_PER_ADDRESS_PER_SECOND", burst_seconds=100)


class Turns:
    """So many passwords are looked at at once; who comes then waits in line, but not for ever.

    It takes 100 MB of memory each time: a stranger who sends fifty at once must not take 5 GB.
    """

    def __init__(self, at_once: int) -> None:
        self._free = threading.BoundedSemaphore(at_once)

    def take(self) -> bool:
        """False if none came in PATIENCE_SECONDS; otherwise it is to be given back."""
        if self._free.acquire(blocking=False):
            return True
        # Whoever waits must not keep one of the pool's connections.
        close_old_connections()
        return self._free.acquire(timeout=PATIENCE_SECONDS)

    def give_back(self) -> None:
        self._free.release()


PATIENCE_SECONDS = 10.0
# Those of browsers in which the account has signed in before wait for no stranger.
of_strangers, of_known = Turns(3), Turns(3)


class Tries:
    """One try at one account: charged before the password is looked at, given back if it fits."""

    def __init__(self, request: HttpRequest) -> None:
        self.typed = request.POST.get("username", "")[:MAXIMUM_NAME]
        self.name = unicodedata.normalize("NFKC", self.typed).casefold()
        self.network = network_of(address_of(request))
        mark = mark_of(request, self.name)
        self.turns = of_known if mark else of_strangers
        self._charged: list[tuple[Quota, Hashable]] = [(per_account, (self.name, mark))]
        if not mark:
            self._charged.insert(0, (per_address, self.network))

    def wait(self) -> float:
        """0 if the password may be looked at; otherwise how many seconds to wait."""
        for number, (quota, who) in enumerate(self._charged):
            if seconds := quota.wait_before(who):
                for earlier, whose in self._charged[:number]:
                    earlier.give_back(whose)
                return seconds
        return 0.0

    def give_back(self) -> None:
        for quota, who in self._charged:
            quota.give_back(who)


def mark_of(request: HttpRequest, name: str) -> str:
    """What tells this browser from all others, if the account has signed in with it before."""
    try:
        text = request.COOKIES.get(MARK, "")
        marked, own = signing.loads(text, salt=_SALT, max_age=MARK_SECONDS)
    except (signing.BadSignature, ValueError, TypeError):
        return ""
    return str(own) if marked == name else ""


class SignIn(LoginView):
    template_name = "sign_in.html"
    redirect_authenticated_user = True

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        self.tries = Tries(request)
        if seconds := self.tries.wait():
            return self._refuse(seconds)
        if not self.tries.turns.take():
            self.tries.give_back()
            return self._refuse(PATIENCE_SECONDS)
        try:
            return super().post(request, *args, **kwargs)
        finally:
            self.tries.turns.give_back()

    def _refuse(self, seconds: float) -> HttpResponse:
        """Without a look at the password, so that the answer tells nothing about it."""
        refusals.of_stranger(self.tries.network, "too_many_wrong_passwords", "at the sign-in")
        whole = math.ceil(seconds)
        form = self.get_form_class()(self.request, initial={"username": self.tries.typed})
        answer = self.render_to_response(self.get_context_data(form=form, wait_seconds=whole))
        answer.status_code = 429
        answer["Retry-After"] = str(whole)
        return answer

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        self.tries.give_back()
        with transaction.atomic():
            answer = super().form_valid(form)
            record(Verb.SIGNED_IN, form.get_user())
        own = mark_of(self.request, self.tries.name) or secrets.token_urlsafe(16)
        answer.set_cookie(
            MARK,
            signing.dumps([self.tries.name, own], salt=_SALT),
            max_age=MARK_SECONDS,
            path=self.request.path,
            secure=settings.SESSION_COOKIE_SECURE,
            httponly=True,
            samesite="Lax",
        )
        return answer

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        if form.cleaned_data.get("password"):
            _record_failure(form.cleaned_data.get("username", ""))
        return super().form_invalid(form)


def _record_failure(name: str) -> None:
    """By the account's name if there is one. Others may be passwords typed into the wrong field."""
    user = get_user_model().objects.filter(username=name).first()
    with transaction.atomic():
        if user is None:
            record_event(Verb.SIGN_IN_FAILED, Kind.USER, name="an unknown account")
        else:
            detail = "" if user.is_active else "The account is not active."
            record(Verb.SIGN_IN_FAILED, user, detail=detail)


class SignOut(LogoutView):
    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        with transaction.atomic():
            if request.user.is_authenticated:
                record(Verb.SIGNED_OUT, request.user)
            return super().post(request, *args, **kwargs)
