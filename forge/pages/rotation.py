"""A runner's token: rotate it, and end the older ones before their time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from forge.pages import made_once
from forge.pages.access import demand, signed_in
from forge.pages.runners import show_set_up
from forge.pages.shell import page
from projects.errors import ForgeError
from projects.permissions import Action
from runners.models import Runner
from runners.operations import NewRunner, end_older_tokens, rotate_token
from runners.overlap import OverlapForm, overlap_in_words
from tasks.models import Task

if TYPE_CHECKING:
    from datetime import datetime

    from django.http import HttpRequest, HttpResponse


def _runner(request: HttpRequest, pk: int) -> Runner:
    rows = Runner.objects.for_user(request.user).select_related("project")
    runner = get_object_or_404(rows.prefetch_related("tokens"), pk=pk)
    demand(request, runner.project, Action.RUNNER_CHANGE)
    return runner


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def rotate(request: HttpRequest, pk: int) -> HttpResponse:
    """The choice of the overlap; the answer to its POST shows the new token, once."""
    runner = _runner(request, pk)
    if at := made_once.made_at(request):
        return _made_already(request, runner, at)
    usual = {} if runner.last_heartbeat_at else {"overlap": 0}
    form = OverlapForm(request.POST if request.method == "POST" else None, initial=usual)
    if form.is_valid() and (made := _rotated(request, runner, form)):
        return _show_token(request, made, form)
    context = {"form": form, **_known(runner)}
    answer = page(
        request, "runner_rotate.html", project=runner.project, section="runners", **context
    )
    answer.status_code = 400 if form.errors else 200
    return answer


def _known(runner: Runner) -> dict[str, object]:
    """What the end of its older tokens concerns: those, and what it holds."""
    held = list(Task.objects.held_by(runner).order_by("pk").only("pk"))
    return {"runner": runner, "held": held, "older": runner.older_tokens(now=timezone.now())}


def _rotated(request: HttpRequest, runner: Runner, form: OverlapForm) -> NewRunner | None:
    overlap, now = form.cleaned_data["overlap"], timezone.now()
    try:
        made = rotate_token(runner=runner, overlap=overlap, by=signed_in(request), now=now)
    except ForgeError as error:
        form.add_error(None, str(error))
        return None
    made_once.remember(request, now=now)
    return made


def _made_already(request: HttpRequest, runner: Runner, at: datetime) -> HttpResponse:
    return made_once.already(
        request,
        runner.project,
        what=f"The new token of {runner.name}",
        at=at,
        to=reverse("runner", args=[runner.pk]),
        label="Open runner",
        again=request.path,
    )


def _show_token(request: HttpRequest, made: NewRunner, form: OverlapForm) -> HttpResponse:
    overlap = form.cleaned_data["overlap"]
    if made.runner.last_heartbeat_at is None:
        # No worker is there that would notice it: the host may have nothing at all.
        return show_set_up(request, made, older=overlap_in_words(overlap))
    context = {
        "runner": made.runner,
        "token": made.token,
        "overlap": overlap,
        "overlap_words": overlap_in_words(overlap),
    }
    project = made.runner.project
    answer = page(request, "runner_rotated.html", project=project, section="runners", **context)
    answer["Cache-Control"] = "no-store"
    return answer


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def end_older(request: HttpRequest, pk: int) -> HttpResponse:
    """What ending the overlap now leads to, and its end."""
    runner = _runner(request, pk)
    if request.method != "POST":
        told = {"current": runner.current_token, **_known(runner)}
        return page(
            request, "runner_end_older.html", project=runner.project, section="runners", **told
        )
    if end_older_tokens(runner=runner, now=timezone.now()):
        messages.success(request, f"Only the newest token of {runner.name} works now.")
    return redirect("runner", runner.pk)
