"""Runners: list, add, one runner, remove."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import ValidationError
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from forge.lists.runner_filters import asked_for, matching
from forge.lists.task_rows import for_rows, rows_of
from forge.pages import fleet, made_once
from forge.pages.access import demand, project_for, signed_in
from forge.pages.audit_words import trail_of
from forge.pages.charts import last_hour
from forge.pages.first_contact import first_contact
from forge.pages.only_posted import only_posted
from forge.pages.paging import Paged
from forge.pages.runner_form import RunnerForm
from forge.pages.runner_health import health_of
from forge.pages.runner_menus import menus_in, segments, understood
from forge.pages.shell import page
from forge.pages.silence import fates_of_held, lacks_its_token
from forge.pages.tag_waits import waits_by_tag
from projects.audit.entry import Kind
from projects.errors import ForgeError
from projects.permissions import Action
from projects.secret_fields import add_problems
from projects.words import whole_number
from runners.errors import RunnerNameTakenError
from runners.models import Runner
from runners.nodes import label_of
from runners.operations import NewRunner, create_runner, lift_quarantine
from runners.wheel import NAME as WHEEL
from tasks.lifecycle import TaskState
from tasks.models import Task
from tasks.operations import retire_runner
from tasks.trial import run_trial
from tasks.unserved import unserved

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from django.http import HttpRequest, HttpResponse

    from projects.models import Project
    from runners.models import RunnerQuerySet

LATEST = 10
PAGE_RUNNERS = 25
MAXIMUM_TAGS_TEXT = 400


@login_required
@require_safe
def runners(request: HttpRequest, pk: int) -> HttpResponse:
    project = project_for(request, pk)
    now = timezone.now()
    rows = fleet.rows_of(project, now=now)
    asked, misread = understood(asked_for(request.GET))
    asked.pop("project", None)
    matching = _matching(project, rows, asked)
    found = [row for row in matching if row.is_of(asked.get("status", ""))]
    paged = Paged(found, whole_number(request.GET.get("page", "")), PAGE_RUNNERS)
    is_part = "part" in request.GET
    context = {
        "rows": fleet.shown(paged.rows, now=now, load=last_hour(project, now=now)),
        "paged": paged,
        "sentence": fleet.fleet_sentence(rows),
        "has_runners": bool(rows),
        "segments": segments(Counter(row.group for row in matching), asked),
        "menus": [] if is_part else menus_in(project, asked),
        "filter_query": urlencode(asked),
        "is_filtered": bool(asked),
        "text": asked.get("q", ""),
        "asked": asked,
        "misread": misread,
    }
    context |= _fleet_figures(project, rows, now)
    name = "runners_live.html" if is_part else "runners.html"
    return page(request, name, project=project, section="runners", **context)


def _matching(
    project: Project, rows: list[fleet.RunnerRow], asked: Mapping[str, str]
) -> list[fleet.RunnerRow]:
    if not asked.keys() & {"tag", "version", "q"}:
        return rows
    found = set(matching(project, asked).values_list("pk", flat=True))
    return [row for row in rows if row.runner.pk in found]


def _fleet_figures(
    project: Project, rows: Sequence[fleet.RunnerRow], now: datetime
) -> dict[str, Any]:
    """What stands above the list, of all runners whatever the list shows."""
    waiting = Task.objects.filter(project=project, state=TaskState.QUEUED)
    waits, waits_count = waits_by_tag(project, rows, now=now)
    return {
        "free": sum(row.free for row in rows),
        "in_service": sum(row.runner.slots for row in rows if row.is_online),
        "out_of_service": fleet.slots_in_words(rows),
        "running": sum(len(row.held) for row in rows if row.is_heard),
        "unreachable": sum(len(row.held) for row in rows if not row.is_heard),
        "waiting": waiting.count(),
        "oldest": waiting.order_by("queued_at", "pk").first(),
        "trouble": sum(1 for row in rows if row.is_in_trouble),
        "trouble_words": fleet.trouble_in_words(rows),
        "waits": waits,
        "waits_count": waits_count,
    }


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def new(request: HttpRequest, pk: int) -> HttpResponse:
    """The form; the answer to its POST shows the token, and nothing else ever does."""
    project = project_for(request, pk)
    demand(request, project, Action.RUNNER_CHANGE)
    if at := made_once.made_at(request):
        return _made_already(request, project, at)
    # Whoever comes from a task that waits for tags is not to forget them.
    wanted = request.GET.get("tags", "")[:MAXIMUM_TAGS_TEXT].replace("\0", "")
    form = RunnerForm(request.POST if request.method == "POST" else None, initial={"tags": wanted})
    if form.is_valid() and (created := _created(request, project, form)):
        return show_set_up(request, created)
    answer = page(request, "runner_form.html", project=project, section="runners", form=form)
    answer.status_code = 400 if form.errors else 200
    return answer


def _created(request: HttpRequest, project: Project, form: RunnerForm) -> NewRunner | None:
    now = timezone.now()
    try:
        by = signed_in(request)
        created = create_runner(project=project, by=by, now=now, **form.cleaned_data)
    except RunnerNameTakenError as error:
        form.add_error("name", str(error))
    except ValidationError as error:
        add_problems(form, error)
    else:
        made_once.remember(request, now=now)
        return created
    return None


def _made_already(request: HttpRequest, project: Project, at: datetime) -> HttpResponse:
    """Of the runner that has the name which was sent, unless it was removed meanwhile."""
    name = request.POST.get("name", "").strip()
    row = Runner.objects.for_user(request.user).filter(project=project, name=name).first()
    return made_once.already(
        request,
        project,
        what=f"Runner {name}",
        at=at,
        to=reverse("runner", args=[row.pk]) if row else reverse("runners", args=[project.pk]),
        label="Open runner" if row else "All runners",
        again=reverse("runner-rotate", args=[row.pk]) if row else request.path,
    )


def show_set_up(request: HttpRequest, created: NewRunner, *, older: str = "") -> HttpResponse:
    """Its token, once, with all that is to be done on a host that has nothing yet.

    `older` says what became of the tokens that this one replaces.
    """
    context = _contact(created.runner) | {"token": created.token, "wheel": WHEEL, "older": older}
    answer = page(
        request, "runner_token.html", project=created.runner.project, section="runners", **context
    )
    answer["Cache-Control"] = "no-store"
    return answer


def _contact(runner: Runner) -> dict[str, Any]:
    own_broker = settings.FORGE_RUNNER_BROKER_URL
    return {
        "runner": runner,
        "first": first_contact(runner, now=timezone.now()),
        "current": runner.current_token,
        "forge_url": settings.FORGE_URL,
        "broker": own_broker and label_of(own_broker),
    }


@login_required
@require_safe
def contact(request: HttpRequest, pk: int) -> HttpResponse:
    """The panel beside a new runner's token, which asks for itself until it is green."""
    row = _runner_for(request, pk)
    return page(
        request,
        "runner_contact.html",
        project=row.project,
        section="runners",
        **_contact(row),
        is_news=True,
    )


def _runner_for(request: HttpRequest, pk: int) -> Runner:
    return get_object_or_404(_with_all(Runner.objects.for_user(request.user)), pk=pk)


def _with_all(rows: RunnerQuerySet) -> RunnerQuerySet:
    rows = rows.select_related("project", "created_by", "registered_with", "paused_by")
    return rows.prefetch_related("tokens__created_by")


@login_required
@require_safe
def runner(request: HttpRequest, pk: int) -> HttpResponse:
    """One runner; of one that was removed, what it was and did."""
    row = get_object_or_404(_with_all(Runner.objects.ever_for_user(request.user)), pk=pk)
    now = timezone.now()
    latest = for_rows(Task.objects.filter(runner=row))[:LATEST]
    seen = fleet.row_of(row, now=now, load=last_hour(row.project, now=now))
    context = {
        "row": seen,
        "runner": row,
        "health": health_of(row, now=now),
        "latest": rows_of(latest, now=now),
        "queues": [queue.name for queue in row.queues()],
        "current": row.current_token,
        "older": row.older_tokens(now=now),
        "trail": trail_of(request.user, Kind.RUNNER, row.pk),
        "lacks_token": lacks_its_token(row, now=now),
        "fates": fates_of_held(row, now=now) if seen.silent_for else ((), 0),
        "forge_url": settings.FORGE_URL,
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
    context = {"runner": row, "held": list(Task.objects.held_by(row).order_by("pk").only("pk"))}
    # What no runner may take now is none of its doing.
    context |= {"stranded": unserved(row.project, without=row) - unserved(row.project)}
    return page(request, "runner_remove.html", project=row.project, section="runners", **context)


@login_required
@only_posted("runner")
def lift(request: HttpRequest, pk: int) -> HttpResponse:
    """End the runner's quarantine before its time."""
    row = _runner_for(request, pk)
    demand(request, row.project, Action.RUNNER_CHANGE)
    if lift_quarantine(runner=row, by=signed_in(request), now=timezone.now()):
        messages.success(request, f"{row.name} may use the broker again.")
    return redirect("runner", row.pk)


@login_required
@only_posted("runner")
def test(request: HttpRequest, pk: int) -> HttpResponse:
    """Run a test task for the runner's tags; the first one makes its template."""
    row = _runner_for(request, pk)
    demand(request, row.project, Action.TEMPLATE_CHANGE)
    demand(request, row.project, Action.TASK_RUN)
    try:
        task = run_trial(runner=row, by=signed_in(request), now=timezone.now())
    except ForgeError as error:
        messages.error(request, str(error))
        return redirect("templates", row.project_id)
    return redirect("task", task.pk)
