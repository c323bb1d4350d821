"""Registration tokens: list, create, revoke. For managers."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import ValidationError
from django.db.models import Count, Q
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from forge.pages import made_once
from forge.pages.access import demand, project_for, signed_in
from forge.pages.registered_hosts import registered_hosts
from forge.pages.registration_form import RegistrationForm
from forge.pages.shell import page
from projects.permissions import Action
from projects.secret_fields import add_problems
from projects.words import counted, number
from runners.models import RegistrationToken
from runners.registration import (
    NewRegistrationToken,
    create_registration_token,
    revoke_registration_token,
)
from runners.status import RegistrationStatus
from runners.wheel import NAME as WHEEL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.http import HttpRequest, HttpResponse

    from projects.models import Project

# Of those that no longer work; the API has them all.
MAXIMUM_ENDED = 50
Row = tuple[RegistrationToken, RegistrationStatus]


@login_required
@require_safe
def registration_tokens(request: HttpRequest, pk: int) -> HttpResponse:
    project = _project(request, pk)
    rows = _rows(project, now=timezone.now())
    context = {"rows": rows, "sentence": _sentence(rows)}
    return page(request, "registration_tokens.html", project=project, section="runners", **context)


def _project(request: HttpRequest, pk: int) -> Project:
    project = project_for(request, pk)
    demand(request, project, Action.RUNNER_CHANGE)
    return project


def _rows(project: Project, *, now: datetime) -> list[Row]:
    """Those that work first, each kind newest first."""
    present = Count("runners", filter=Q(runners__removed_at=None))
    tokens = RegistrationToken.objects.filter(project=project).order_by("-pk")
    tokens = tokens.select_related("created_by").annotate(runner_count=present)
    rows = [(token, token.status_at(now)) for token in tokens.prefetch_related("tags")]
    active = [row for row in rows if row[1] == RegistrationStatus.ACTIVE]
    ended = [row for row in rows if row[1] != RegistrationStatus.ACTIVE]
    return active + ended[:MAXIMUM_ENDED]


def _sentence(rows: Sequence[Row]) -> str:
    active = [token for token, status in rows if status == RegistrationStatus.ACTIVE]
    if not active:
        return "None works now. With one, a host adds itself as a runner of this project."
    left = sum(token.max_uses - token.uses for token in active)
    works = "works" if len(active) == 1 else "work"
    themselves = "itself" if left == 1 else "themselves"
    return f"{number(len(active))} {works}: {counted(left, 'host')} can still add {themselves}."


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def new(request: HttpRequest, pk: int) -> HttpResponse:
    """The form; the answer to its POST shows the token, and nothing else ever does."""
    project = _project(request, pk)
    if at := made_once.made_at(request):
        return _made_already(request, project, at)
    form = RegistrationForm(request.POST if request.method == "POST" else None)
    if form.is_valid() and (created := _created(request, project, form)):
        return _show_token(request, project, created)
    answer = page(request, "registration_form.html", project=project, section="runners", form=form)
    answer.status_code = 400 if form.errors else 200
    return answer


def _created(
    request: HttpRequest, project: Project, form: RegistrationForm
) -> NewRegistrationToken | None:
    now, given = timezone.now(), dict(form.cleaned_data)
    ends = now + given.pop("lifetime")
    by = signed_in(request)
    try:
        made = create_registration_token(project=project, by=by, now=now, expires_at=ends, **given)
    except ValidationError as error:
        add_problems(form, error)
        return None
    made_once.remember(request, now=now)
    return made


def _made_already(request: HttpRequest, project: Project, at: datetime) -> HttpResponse:
    name = request.POST.get("name", "").strip()
    return made_once.already(
        request,
        project,
        what=f"Registration token {name}",
        at=at,
        to=reverse("registration-tokens", args=[project.pk]),
        label="All registration tokens",
        again=request.path,
    )


def _show_token(
    request: HttpRequest, project: Project, created: NewRegistrationToken
) -> HttpResponse:
    context = _hosts(created.row) | {"token": created.token, "wheel": WHEEL}
    answer = page(request, "registration_token.html", project=project, section="runners", **context)
    answer["Cache-Control"] = "no-store"
    return answer


def _hosts(token: RegistrationToken) -> dict[str, Any]:
    hosts = registered_hosts(token, now=timezone.now())
    return {"row": token, "hosts": hosts, "forge_url": settings.FORGE_URL}


@login_required
@require_safe
def hosts(request: HttpRequest, pk: int) -> HttpResponse:
    """The panel beside a new registration token, which asks for itself until all is green."""
    token = _token(request, pk)
    context = _hosts(token)
    name = "registration_hosts.html"
    return page(request, name, project=token.project, section="runners", **context)


def _token(request: HttpRequest, pk: int) -> RegistrationToken:
    rows = RegistrationToken.objects.for_user(request.user).select_related("project")
    token = get_object_or_404(rows, pk=pk)
    demand(request, token.project, Action.RUNNER_CHANGE)
    return token


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def revoke(request: HttpRequest, pk: int) -> HttpResponse:
    """What revoking it leads to, and the revocation."""
    token = _token(request, pk)
    if request.method == "POST":
        revoke_registration_token(token=token, now=timezone.now())
        messages.success(request, f"Revoked {token.name}. No further host can use it.")
        return redirect("registration-tokens", token.project_id)
    context = {"row": token, "made": token.runners.filter(removed_at=None).count()}
    return page(
        request, "registration_revoke.html", project=token.project, section="runners", **context
    )
