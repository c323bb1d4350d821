"""One's own password: whoever has it from an administrator makes it their own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.decorators import login_required
from django.contrib.auth.forms import PasswordChangeForm
from django.db import transaction
from django.shortcuts import redirect, render
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from forge.pages.access import signed_in
from forge.pages.sign_in import PATIENCE_SECONDS, counted_as, of_known, per_account
from projects.audit.entry import Verb
from projects.audit.recording import record
from projects.errors import PasswordMeanwhileError
from projects.members import change_password

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.http import HttpRequest, HttpResponse

GOOD = "At least 8 characters, not digits alone, not like your name, and none that many use."
AS_OLD = "A wrong old password, on the page for a new one."
DONE = "Your password is changed. Other browsers are signed out; API tokens work on."


class PasswordForm(PasswordChangeForm):
    error_messages = {
        **PasswordChangeForm.error_messages,
        "password_incorrect": "This is not your password. Capital letters matter in it.",
    }

    def __init__(self, user: User, *args: object) -> None:
        super().__init__(user, *args)
        labels = {"old_password": "Password now", "new_password1": "New password"}
        labels["new_password2"] = "New password again"
        for name, label in labels.items():
            self.fields[name].label, self.fields[name].help_text = label, ""
        self.fields["new_password1"].help_text = GOOD


@dataclass(frozen=True)
class Wait:
    """How many seconds to wait, whether for one's own wrong tries or for others' turns."""

    seconds: int = 0
    is_busy: bool = False


@sensitive_post_parameters()
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def password(request: HttpRequest) -> HttpResponse:
    user = signed_in(request)
    form = PasswordForm(user, request.POST if request.method == "POST" else None)
    try:
        wait = _changed_or_wait(form, user) if form.is_bound else Wait()
    except PasswordMeanwhileError:
        return redirect("password")  # which is for those who are still signed in
    if form.is_bound and not wait.seconds and not form.errors:
        # This browser stays signed in, under another key.
        update_session_auth_hash(request, user)
        messages.success(request, DONE)
        return redirect("password")
    context = {"form": form, "wait_seconds": wait.seconds, "is_busy": wait.is_busy}
    answer = render(request, "password.html", {**context, "section": "password"})
    if wait.seconds:
        answer.status_code = HTTPStatus.TOO_MANY_REQUESTS
        answer["Retry-After"] = str(wait.seconds)
    elif form.errors:
        answer.status_code = HTTPStatus.BAD_REQUEST
    return answer


def _changed_or_wait(form: PasswordForm, user: User) -> Wait:
    """With no seconds if the form was looked at, whose errors tell the rest.

    Whoever has come by somebody's session guesses here no faster than at the sign-in. Raises
    PasswordMeanwhileError.
    """
    name = counted_as(user.get_username())
    sender = (name, "own")
    if seconds := per_account.wait_before(sender):
        return Wait(math.ceil(seconds))
    if not of_known.take(name):
        per_account.give_back(sender)
        return Wait(math.ceil(PATIENCE_SECONDS), is_busy=True)
    try:
        is_valid = form.is_valid()
        if "old_password" not in form.errors:
            per_account.give_back(sender)
        elif form["old_password"].data:
            with transaction.atomic():
                record(Verb.SIGN_IN_FAILED, user, detail=AS_OLD)
        if is_valid:
            # While others had their turns an administrator may have shut this session out.
            new = form.cleaned_data["new_password1"]
            change_password(user=user, password=new, instead_of=user.password)
    finally:
        of_known.give_back(name)
    return Wait()
