"""Pause a runner, resume it, drain it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from forge.pages.access import demand, signed_in
from forge.pages.only_posted import only_posted
from forge.pages.shell import page
from projects.errors import ForgeError
from projects.permissions import Action
from runners.models import Runner
from runners.operations import drain_runner, pause_runner, resume_runner
from runners.pause_form import DrainForm, PauseForm
from tasks.models import Task
from tasks.sentences import clock

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


def _runner(request: HttpRequest, pk: int) -> Runner:
    rows = Runner.objects.for_user(request.user).select_related("project", "paused_by")
    runner = get_object_or_404(rows, pk=pk)
    demand(request, runner.project, Action.RUNNER_CHANGE)
    return runner


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def pause(request: HttpRequest, pk: int) -> HttpResponse:
    """What a pause leads to, with its reason and length, and the pause."""
    runner = _runner(request, pk)
    is_paused = runner.is_paused(now=timezone.now())
    known: dict[str, Any] = {"initial": {"reason": runner.pause_reason}} if is_paused else {}
    if is_paused:
        known["ends_at"] = runner.paused_until
    form = PauseForm(request.POST if request.method == "POST" else None, **known)
    if form.is_valid() and _is_as_seen(request, runner, form) and _paused(request, runner, form):
        messages.success(request, f"{runner.name} is paused.")
        return redirect("runner", runner.pk)
    held = list(Task.objects.held_by(runner).order_by().only("pk"))
    context = {"runner": runner, "form": form, "held": held, "is_paused": is_paused}
    context |= {"seen": _mark(runner), "is_silent": runner.is_silent(now=timezone.now())}
    answer = page(
        request, "runner_pause.html", project=runner.project, section="runners", **context
    )
    answer.status_code = 400 if form.errors else 200
    return answer


def _mark(runner: Runner) -> str:
    """Of the pause that is shown with the form; empty if there is none."""
    is_paused = runner.is_paused(now=timezone.now())
    return runner.paused_at.isoformat() if is_paused and runner.paused_at else ""


def _is_as_seen(request: HttpRequest, runner: Runner, form: PauseForm) -> bool:
    """Whether nobody else has paused it since the form was opened: theirs is not to go unseen."""
    mark = _mark(runner)
    if not mark or request.POST.get("seen", mark) == mark:
        return True
    reason = runner.pause_reason.rstrip(".")
    if runner.paused_by_id == signed_in(request).pk and reason == form.cleaned_data["reason"]:
        return True  # the same form, sent twice
    until = f" until {clock(runner.paused_until, timezone.now())}" if runner.paused_until else ""
    form.add_error(
        None,
        f"{runner.pauser} has paused it{until} since this form was opened: {reason}. Pause it "
        "again to put yours in its place.",
    )
    return False


def _paused(request: HttpRequest, runner: Runner, form: PauseForm) -> bool:
    reason, now = form.cleaned_data["reason"], timezone.now()
    try:
        pause_runner(
            runner=runner, reason=reason, until=form.until(now), by=signed_in(request), now=now
        )
    except ForgeError as error:
        form.add_error(None, str(error))
        return False
    return True


@login_required
@only_posted("runner")
def resume(request: HttpRequest, pk: int) -> HttpResponse:
    """End its pause and its drain before their time; back to the list where that was asked for."""
    runner = _runner(request, pk)
    is_resumed = resume_runner(runner=runner, by=signed_in(request), now=timezone.now())
    if runner.drain_order:
        end = "Its worker was told to end. Started again, it takes tasks."
        messages.success(
            request, f"{runner.name} is no longer paused. {end}" if is_resumed else end
        )
    elif is_resumed:
        messages.success(request, f"{runner.name} takes tasks again.")
    if request.GET.get("to") == "list":
        return redirect("runners", runner.project_id)
    return redirect("runner", runner.pk)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def drain(request: HttpRequest, pk: int) -> HttpResponse:
    """What draining leads to, with its reason, and the order to the worker."""
    runner = _runner(request, pk)
    known = {"reason": runner.pause_reason, "stays_paused": True}
    form = DrainForm(request.POST if request.method == "POST" else None, initial=known)
    if form.is_valid() and _drained(request, runner, form):
        messages.success(request, f"{runner.name} takes nothing new and ends after its tasks.")
        return redirect("runner", runner.pk)
    context = {
        "runner": runner,
        "form": form,
        "held": list(Task.objects.held_by(runner).order_by().only("pk")),
        "is_connected": not runner.is_silent(now=timezone.now()),
    }
    answer = page(
        request, "runner_drain.html", project=runner.project, section="runners", **context
    )
    answer.status_code = 400 if form.errors else 200
    return answer


def _drained(request: HttpRequest, runner: Runner, form: DrainForm) -> bool:
    now = timezone.now()
    try:
        drain_runner(runner=runner, by=signed_in(request), now=now, **form.cleaned_data)
    except ForgeError as error:
        form.add_error(None, str(error))
        return False
    return True
