"""Signing in and out, and how often somebody may be wrong about a password.

Who guesses is slowed down, and nobody can lock somebody else out: a browser in which an account
has signed in before (`forge.pages.known_browsers`) is counted by itself. Whatever others try, from
wherever, the account's owner comes in from there.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.contrib.auth.forms import UsernameField
from django.contrib.auth.views import LoginView, LogoutView
from django.db import close_old_connections, transaction

from forge.pages.known_browsers import mark_of, remember
from projects.audit.entry import Kind, Verb
from projects.audit.recording import record, record_event
from runners.endpoint import address_of
from runners.quotas import Quota, network_of
from runners.refusals import refusals

if TYPE_CHECKING:
    from collections.abc import Hashable

    from django.contrib.auth.forms import AuthenticationForm
    from django.http import HttpRequest, HttpResponse

MAXIMUM_NAME = 150
# Reads a name as the form does that looks for its account.
_NAME = UsernameField(max_length=MAXIMUM_NAME)

# Ten wrong passwords at once and then one every ten seconds; of one address five times as many.
per_account = Quota("FORGE_WRONG_PASSWORDS_PER_SECOND", burst_seconds=100)
per_address = Quota("FORGE_WRONG_PASSWORDS_PER_ADDRESS_PER_SECOND", burst_seconds=100)


class Turns:
    """So many passwords are looked at at once; who comes then waits in line, but not for ever.

    It takes 100 MB of memory each time: a stranger who sends fifty at once must not take 5 GB.
    Of one account `of_each` are looked at, so that whoever sends many of one leaves the others
    their turns.
    """

    def __init__(self, at_once: int, *, of_each: int) -> None:
        self._at_once, self._of_each = at_once, of_each
        self._taken: Counter[str] = Counter()
        self._is_given_back = threading.Condition()

    def take(self, account: str) -> bool:
        """False if none came in PATIENCE_SECONDS; otherwise it is to be given back."""
        if self._wait(account, 0.0):
            return True
        # Whoever waits must not keep one of the pool's connections.
        close_old_connections()
        return self._wait(account, PATIENCE_SECONDS)

    def _wait(self, account: str, seconds: float) -> bool:
        with self._is_given_back:
            if not self._is_given_back.wait_for(partial(self._has_room, account), seconds):
                return False
            self._taken[account] += 1
            return True

    def _has_room(self, account: str) -> bool:
        return self._taken.total() < self._at_once and self._taken[account] < self._of_each

    def give_back(self, account: str) -> None:
        with self._is_given_back:
            self._taken[account] -= 1
            if not self._taken[account]:
                del self._taken[account]
            self._is_given_back.notify_all()


PATIENCE_SECONDS = 10.0
# Those of browsers in which the account has signed in before wait for no stranger.
of_strangers, of_known = Turns(3, of_each=3), Turns(3, of_each=1)


def counted_as(name: str) -> str:
    """Under which name tries at an account are counted: all that could be taken for one is one."""
    return name.casefold()


class Tries:
    """One try at one account: charged before the password is looked at, given back if it fits."""

    def __init__(self, request: HttpRequest) -> None:
        sent = request.POST.get("username", "")
        self.typed = sent[:MAXIMUM_NAME]
        name = str(_NAME.to_python(sent))[:MAXIMUM_NAME]
        self.name = counted_as(name)
        self.network = network_of(address_of(request))
        mark = mark_of(request, name)
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


class SignIn(LoginView):
    template_name = "sign_in.html"
    redirect_authenticated_user = True

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        self.tries = Tries(request)
        if seconds := self.tries.wait():
            return self._refuse(seconds, "too_many_wrong_passwords")
        if not self.tries.turns.take(self.tries.name):
            self.tries.give_back()
            return self._refuse(PATIENCE_SECONDS, "too_many_passwords_at_once", is_busy=True)
        try:
            return super().post(request, *args, **kwargs)
        finally:
            self.tries.turns.give_back(self.tries.name)

    def _refuse(self, seconds: float, code: str, *, is_busy: bool = False) -> HttpResponse:
        """Without a look at the password, so that the answer tells nothing about it."""
        refusals.of_stranger(self.tries.network, code, "at the sign-in")
        whole = math.ceil(seconds)
        form = self.get_form_class()(self.request, initial={"username": self.tries.typed})
        context = self.get_context_data(form=form, wait_seconds=whole, is_busy=is_busy)
        answer = self.render_to_response(context)
        answer.status_code = 429
        answer["Retry-After"] = str(whole)
        return answer

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        self.tries.give_back()
        with transaction.atomic():
            answer = super().form_valid(form)
            record(Verb.SIGNED_IN, form.get_user())
        remember(self.request, answer, form.get_user())
        return answer

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        if form.cleaned_data.get("password"):
            _record_failure(form.cleaned_data.get("username", ""))
        # The name stands there again, and the password does not.
        if form.cleaned_data.get("username"):
            form.fields["username"].widget.attrs.pop("autofocus", None)
            form.fields["password"].widget.attrs["autofocus"] = True
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
