"""Templates: list, form, run, remove."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import ValidationError
from django.db.models import OuterRef, Q, Subquery
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from forge.lists.task_rows import for_rows, rows_of
from forge.pages import made_once, versions
from forge.pages.access import demand, project_for, signed_in
from forge.pages.audit_words import trail_of
from forge.pages.shell import page
from forge.pages.template_form import TemplateForm
from projects.audit.entry import Kind
from projects.errors import ForgeError
from projects.permissions import Action
from projects.secret_fields import add_problems
from projects.words import counted, number, whole_number
from tasks.duplicating import copy_of
from tasks.errors import TemplateNotRunnableError
from tasks.models import Task, TaskTemplate
from tasks.operations import remove_template, run_template, save_template
from tasks.sources import Sources
from tasks.template_changes import why_not_runnable

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse

    from projects.models import Project
    from tasks.querysets import TaskQuerySet

LATEST = 5
# 9999-12-31: what Python has no date for is no time.
LATEST_SECOND = 253_402_300_000
SECOND = 1_000_000


@login_required
@require_safe
def templates(request: HttpRequest, pk: int) -> HttpResponse:
    """The list. A page that refreshes itself keeps its rows where they are.

    `top` is the newest template that it was opened with, `opened` when, in microseconds since 1970:
    newer ones are counted instead of pushed in under a pointer that is about to click Run, and
    those that were removed meanwhile stay in their place, without a button.
    """
    project = project_for(request, pk)
    top = whole_number(request.GET.get("top", ""))
    present = TaskTemplate.objects.present().filter(project=project)
    rows = _as_opened(project, top, _moment(request.GET.get("opened", "")))
    tasks = {task.template_id: task for task in _last_tasks(rows)}
    every = rows.select_related("disabled_by").defer("script", "environment")
    pairs = [(row, tasks.get(row.pk)) for row in every.prefetch_related("tags")]
    newer = present.filter(pk__gt=top).count() if top else 0
    known = [task for row, task in pairs if row.removed_at is None]
    context = {
        "pairs": pairs,
        "sentence": _sentence(known) if known or not newer else "All were removed meanwhile.",
        "newer": counted(newer, "new template") if newer else "",
        "live_query": _live_query([row.pk for row, _ in pairs]),
    }
    name = "templates_live.html" if "part" in request.GET else "templates.html"
    return page(request, name, project=project, section="templates", **context)


def _as_opened(project: Project, top: int, opened: datetime | None) -> QuerySet[TaskTemplate]:
    rows = TaskTemplate.objects.filter(project=project)
    if not top or opened is None:
        return rows.filter(removed_at=None)
    return rows.filter(Q(removed_at=None) | Q(removed_at__gte=opened), pk__lte=top)


def _moment(microseconds: str) -> datetime | None:
    """None for what is no time."""
    found = whole_number(microseconds) / SECOND
    return datetime.fromtimestamp(found, tz=UTC) if 0 < found < LATEST_SECOND else None


def _live_query(shown: list[int]) -> str:
    """An empty list has no rows to keep in their places: it takes in whatever comes."""
    opened = int(timezone.now().timestamp() * SECOND)
    top = {"top": max(shown), "opened": opened} if shown else {}
    return urlencode({"part": "live", **top})


def _last_tasks(templates: QuerySet[TaskTemplate]) -> TaskQuerySet:
    """The latest task of each template."""
    last = Task.objects.filter(template=OuterRef("pk")).order_by("-pk").values("pk")[:1]
    ids = templates.order_by().annotate(last=Subquery(last)).values("last")
    return Task.objects.filter(pk__in=ids).without_scripts()


def _sentence(last: list[Task | None]) -> str:
    if not last:
        return "A template says what to run, with what, and where."
    unused = last.count(None)
    count = f"{number(len(last))} {'template' if len(last) == 1 else 'templates'}"
    if not unused:
        return f"{count}, each has run before."
    return f"{count}. {number(unused)} {'has' if unused == 1 else 'have'} never run."


def template_for(request: HttpRequest, pk: int) -> TaskTemplate:
    rows = TaskTemplate.objects.for_user(request.user).select_related("project", "disabled_by")
    return get_object_or_404(rows, pk=pk)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def new(request: HttpRequest, pk: int) -> HttpResponse:
    project = project_for(request, pk)
    demand(request, project, Action.TEMPLATE_CHANGE)
    if at := made_once.made_at(request):
        return made_once.back_to(request, "templates", pk, at=at)
    number = request.GET.get("from")
    if number is None:
        return _form(request, TaskTemplate(project=project))
    # A copy: the form opens with all that the other one says, secrets by their names.
    rows = TaskTemplate.objects.for_user(request.user).filter(project=project)
    source = get_object_or_404(rows.select_related("project"), pk=whole_number(number))
    return _form(request, copy_of(source), source=source)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def template(request: HttpRequest, pk: int) -> HttpResponse:
    """The form, for those who may change it; the same to read for others."""
    row = template_for(request, pk)
    if request.method == "POST":
        demand(request, row.project, Action.TEMPLATE_CHANGE)
        return _form(request, row)
    if row.project.allows(request.user, Action.TEMPLATE_CHANGE):
        return _form(request, row)
    latest = Task.objects.filter(template=row)[:LATEST]
    context = {
        "template": row,
        "sources": Sources.noted(row),
        "latest": rows_of(for_rows(latest), now=timezone.now()),
    }
    return page(request, "template_read.html", project=row.project, section="templates", **context)


def _form(
    request: HttpRequest, row: TaskTemplate, *, source: TaskTemplate | None = None
) -> HttpResponse:
    given = request.POST if request.method == "POST" else None
    mark = versions.mark_of(row, Kind.TEMPLATE) if row.pk else ""
    form = TemplateForm(given, instance=row, source=source)
    if form.is_valid() and _is_saved(form, versions.version_from(request)):
        if given and not mark:
            made_once.remember(request, now=timezone.now())
        messages.success(request, f"Saved {row.name}.")
        return redirect("templates", row.project_id)
    # A rejected form has put what was typed into its row; the heading shows what is stored.
    stored = TaskTemplate.objects.filter(pk=row.pk).first() if row.pk else None
    latest = for_rows(Task.objects.filter(template=stored))[:LATEST] if stored else []
    context: dict[str, Any] = {"form": form, "template": stored, "source": source}
    context |= {"latest": rows_of(latest, now=timezone.now())}
    context |= {"trail": trail_of(request.user, Kind.TEMPLATE, stored.pk) if stored else []}
    context |= versions.told(request, form, stored, Kind.TEMPLATE, mark=mark)
    answer = page(
        request, "template_form.html", project=row.project, section="templates", **context
    )
    answer.status_code = versions.status_of(form)
    return answer


def _is_saved(form: TemplateForm, version: str) -> bool:
    try:
        save_template(
            template=form.instance,
            tags=form.cleaned_data["tags"],
            groups=form.group_ids,
            keys=form.key_names,
            version=version,
        )
    except ForgeError as error:
        versions.refuse(form, error)
    except ValidationError as error:
        add_problems(form, error)
    else:
        return True
    return False


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def run(request: HttpRequest, pk: int) -> HttpResponse:
    """Run it; before, where that may not be what was meant, the question whether to.

    The palette asks about templates of other projects, and with `?unsaved=` a template's form
    that says something else than what is stored.
    """
    row = template_for(request, pk)
    demand(request, row.project, Action.TASK_RUN)
    if request.method != "POST":
        refusal = why_not_runnable(row)
        context = {"template": row, "is_unsaved": "unsaved" in request.GET, "refusal": refusal}
        return page(
            request, "template_run.html", project=row.project, section="templates", **context
        )
    try:
        task = run_template(template=row, by=signed_in(request), now=timezone.now())
    except TemplateNotRunnableError as error:
        messages.error(request, str(error))
        return redirect("templates", row.project_id)
    return redirect("task", task.pk)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def remove(request: HttpRequest, pk: int) -> HttpResponse:
    row = template_for(request, pk)
    demand(request, row.project, Action.TEMPLATE_CHANGE)
    if request.method == "POST":
        remove_template(template=row, now=timezone.now())
        messages.success(request, f"Removed {row.name}. Its tasks and their logs stay.")
        return redirect("templates", row.project_id)
    unfinished = Task.objects.filter(template=row).unfinished().count()
    context = {"template": row, "unfinished": unfinished}
    return page(
        request, "template_remove.html", project=row.project, section="templates", **context
    )
