"""The API tokens of whoever is signed in: list, create, revoke."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import ValidationError
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from forge.pages import made_once
from forge.pages.access import signed_in
from forge.pages.token_form import TokenForm
from projects.errors import TooManyUserTokensError
from projects.models import UserToken
from projects.operations import NewUserToken, create_user_token, revoke_user_token
from projects.secret_fields import add_problems

if TYPE_CHECKING:
    from datetime import datetime

    from django.http import HttpRequest, HttpResponse


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def tokens(request: HttpRequest) -> HttpResponse:
    """The list with the form; the answer to its POST shows the token, and nothing else does."""
    if at := made_once.made_at(request):
        return _made_already(request, at)
    form = TokenForm(request.POST if request.method == "POST" else None)
    if form.is_valid() and (created := _created(request, form)):
        context = {"row": created.row, "token": created.token, "forge_url": settings.FORGE_URL}
        answer = render(request, "token.html", context | {"section": "tokens"})
        answer["Cache-Control"] = "no-store"
        return answer
    now = timezone.now()
    rows = UserToken.objects.for_user(request.user).order_by("-pk")
    pairs = [(row, row.is_expired(now=now)) for row in rows]
    context = {"pairs": pairs, "form": form, "section": "tokens"}
    return render(request, "tokens.html", context, status=400 if form.errors else 200)


def _created(request: HttpRequest, form: TokenForm) -> NewUserToken | None:
    now, life = timezone.now(), form.cleaned_data["lifetime"]
    ends = now + life if life is not None else None
    user, name = signed_in(request), form.cleaned_data["name"]
    try:
        created = create_user_token(user=user, name=name, expires_at=ends, now=now)
    except TooManyUserTokensError as error:
        form.add_error(None, str(error))
    except ValidationError as error:
        add_problems(form, error)
    else:
        made_once.remember(request, now=now)
        return created
    return None


def _made_already(request: HttpRequest, at: datetime) -> HttpResponse:
    address = reverse("tokens")
    name = request.POST.get("name", "").strip()
    return made_once.already(
        request,
        None,
        what=f"API token {name}",
        at=at,
        to=address,
        label="All API tokens",
        again=address,
    )


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def revoke(request: HttpRequest, pk: int) -> HttpResponse:
    token = get_object_or_404(UserToken.objects.for_user(request.user), pk=pk)
    if request.method == "POST":
        revoke_user_token(token=token)
        messages.success(request, f"Revoked {token.name}. It opens nothing any more.")
        return redirect("tokens")
    return render(request, "token_revoke.html", {"row": token, "section": "tokens"})
