"""Runners: list, add, one runner, remove."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import ValidationError
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from forge.pages import fleet
from forge.pages.access import demand, project_for, signed_in
from forge.pages.audit_words import trail_of
from forge.pages.charts import last_hour
from forge.pages.paging import Paged
from forge.pages.runner_form import RunnerForm
from forge.pages.shell import page
from forge.pages.task_rows import for_rows, rows_of
from forge.pages.words import whole_number
from projects.audit.entry import Kind
from projects.permissions import Action
from runners.errors import RunnerNameTakenError
from runners.models import Runner
from runners.operations import NewRunner, create_runner, lift_quarantine
from runners.wheel import NAME as WHEEL
from tasks.lifecycle import TaskState
from tasks.models import Task
from tasks.operations import retire_runner

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from projects.models import Project

LATEST = 10
PAGE_RUNNERS = 25


@login_required
@require_safe
def runners(request: HttpRequest, pk: int) -> HttpResponse:
    project = project_for(request, pk)
    now = timezone.now()
    rows = fleet.rows_of(project, now=now)
    paged = Paged(rows, whole_number(request.GET.get("page", "")), PAGE_RUNNERS)
    waiting = Task.objects.filter(project=project, state=TaskState.QUEUED)
    context = {
        "rows": fleet.shown(paged.rows, now=now, load=last_hour(project, now=now)),
        "paged": paged,
        "sentence": fleet.fleet_sentence(rows),
        "free": sum(row.free for row in rows),
        "in_service": sum(row.runner.concurrency for row in rows if row.is_online),
        "out_of_service": fleet.slots_in_words(rows),
        "running": sum(len(row.held) for row in rows if row.is_heard),
        "unreachable": sum(len(row.held) for row in rows if not row.is_heard),
        "waiting": waiting.count(),
        "oldest": waiting.order_by("pk").first(),
        "trouble": sum(1 for row in rows if row.is_in_trouble),
        "trouble_words": fleet.trouble_in_words(rows),
    }
    name = "runners_live.html" if "part" in request.GET else "runners.html"
    return page(request, name, project=project, section="runners", **context)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def new(request: HttpRequest, pk: int) -> HttpResponse:
    """The form; the answer to its POST shows the token, and nothing else ever does."""
    project = project_for(request, pk)
    demand(request, project, Action.RUNNER_CHANGE)
    form = RunnerForm(request.POST if request.method == "POST" else None)
    if form.is_valid() and (created := _created(request, project, form)):
        return _show_token(request, created)
    answer = page(request, "runner_form.html", project=project, section="runners", form=form)
    answer.status_code = 400 if form.errors else 200
    return answer


def _created(request: HttpRequest, project: Project, form: RunnerForm) -> NewRunner | None:
    now = timezone.now()
    try:
        return create_runner(project=project, by=signed_in(request), now=now, **form.cleaned_data)
    except RunnerNameTakenError as error:
        form.add_error("name", str(error))
    except ValidationError as error:
        form.add_error(None, error.messages)  # type: ignore[arg-type]  # a list is accepted
    return None


def _show_token(request: HttpRequest, created: NewRunner) -> HttpResponse:
    context = _contact(created.runner) | {
        "token": created.token,
        "forge_url": settings.FORGE_URL,
        "wheel": WHEEL,
    }
    answer = page(
        request, "runner_token.html", project=created.runner.project, section="runners", **context
    )
    answer["Cache-Control"] = "no-store"
    return answer


def _contact(runner: Runner) -> dict[str, Any]:
    first = runner.connected_at
    return {
        "runner": runner,
        "is_in_contact": first is not None and not runner.is_silent(now=timezone.now()),
        "after": first - runner.created_at if first else None,
        "forge_url": settings.FORGE_URL,
    }


@login_required
@require_safe
def contact(request: HttpRequest, pk: int) -> HttpResponse:
    """The panel beside a new runner's token, which asks for itself until it is green."""
    row = _runner_for(request, pk)
    return page(
        request, "runner_contact.html", project=row.project, section="runners", **_contact(row)
    )


def _runner_for(request: HttpRequest, pk: int) -> Runner:
    rows = Runner.objects.for_user(request.user)
    rows = rows.select_related("project", "created_by", "registered_with", "paused_by")
    return get_object_or_404(rows.prefetch_related("tokens__created_by"), pk=pk)


@login_required
@require_safe
def runner(request: HttpRequest, pk: int) -> HttpResponse:
    row = _runner_for(request, pk)
    now = timezone.now()
    latest = for_rows(Task.objects.filter(runner=row))[:LATEST]
    context = {
        "row": fleet.row_of(row, now=now),
        "runner": row,
        "latest": rows_of(latest, now=now),
        "queues": [queue.name for queue in row.queues()],
        "current": row.current_token,
        "older": row.older_tokens(now=now),
        "trail": trail_of(request.user, Kind.RUNNER, row.pk),
    }
    name = "runner_live.html" if "part" in request.GET else "runner.html"
    return page(request, name, project=row.project, section="runners", **context)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def remove(request: HttpRequest, pk: int) -> HttpResponse:
    """What removing it leads to, and the removal."""
    row = _runner_for(request, pk)
    demand(request, row.project, Action.RUNNER_CHANGE)
    if request.method == "POST":
        retire_runner(runner=row, by=signed_in(request), now=timezone.now())
        messages.success(request, f"Removed {row.name}. Its token no longer works.")
        return redirect("runners", row.project_id)
    context = {"runner": row, "held": list(Task.objects.held_by(row).order_by("pk"))}
    context |= {"stranded": _stranded(row)}
    return page(request, "runner_remove.html", project=row.project, section="runners", **context)


@login_required
@require_POST
def lift(request: HttpRequest, pk: int) -> HttpResponse:
    """End the runner's quarantine before its time."""
    row = _runner_for(request, pk)
    demand(request, row.project, Action.RUNNER_CHANGE)
    if lift_quarantine(runner=row, by=signed_in(request), now=timezone.now()):
        messages.success(request, f"{row.name} may use the broker again.")
    return redirect("runner", row.pk)


def _stranded(runner: Runner) -> int:
    """How many queued tasks no other runner may take."""
    others = Runner.objects.present().filter(project_id=runner.project_id).exclude(pk=runner.pk)
    covered = {queue.pk for other in others for queue in other.queues()}
    mine = [queue.pk for queue in runner.queues() if queue.pk not in covered]
    return Task.objects.filter(queue__in=mine, state=TaskState.QUEUED).count()
