"""Templates: list, form, run, remove."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import ValidationError
from django.db.models import OuterRef, Subquery
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from forge.pages.access import demand, project_for, signed_in
from forge.pages.audit_words import trail_of
from forge.pages.shell import page
from forge.pages.task_rows import for_rows, rows_of
from forge.pages.template_form import TemplateForm
from forge.pages.words import number
from projects.audit.entry import Kind
from projects.errors import ForgeError
from projects.permissions import Action
from tasks.errors import TemplateNameTakenError, TemplateRemovedError
from tasks.lifecycle import TERMINAL
from tasks.models import Task, TaskTemplate
from tasks.operations import remove_template, run_template, save_template
from tasks.sources import Sources

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from projects.models import Project
    from tasks.querysets import TaskQuerySet

LATEST = 5


@login_required
@require_safe
def templates(request: HttpRequest, pk: int) -> HttpResponse:
    project = project_for(request, pk)
    rows = TaskTemplate.objects.present().filter(project=project).defer("script", "environment")
    tasks = {task.template_id: task for task in _last_tasks(project)}
    pairs = [(row, tasks.get(row.pk)) for row in rows.prefetch_related("tags")]
    context = {"pairs": pairs, "sentence": _sentence([task for _, task in pairs])}
    name = "templates_live.html" if "part" in request.GET else "templates.html"
    return page(request, name, project=project, section="templates", **context)


def _last_tasks(project: Project) -> TaskQuerySet:
    """The latest task of each template."""
    last = Task.objects.filter(template=OuterRef("pk")).order_by("-pk").values("pk")[:1]
    templates = TaskTemplate.objects.present().filter(project=project)
    ids = templates.annotate(last=Subquery(last)).values("last")
    return Task.objects.filter(pk__in=ids).defer("script", "environment")


def _sentence(last: list[Task | None]) -> str:
    if not last:
        return "A template says what to run, with what, and where."
    unused = last.count(None)
    count = f"{number(len(last))} {'template' if len(last) == 1 else 'templates'}"
    if not unused:
        return f"{count}, each has run before."
    return f"{count}. {number(unused)} {'has' if unused == 1 else 'have'} never run."


def _template_for(request: HttpRequest, pk: int) -> TaskTemplate:
    rows = TaskTemplate.objects.for_user(request.user).select_related("project")
    return get_object_or_404(rows, pk=pk)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def new(request: HttpRequest, pk: int) -> HttpResponse:
    project = project_for(request, pk)
    demand(request, project, Action.TEMPLATE_CHANGE)
    return _form(request, TaskTemplate(project=project))


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def template(request: HttpRequest, pk: int) -> HttpResponse:
    """The form, for those who may change it; the same to read for others."""
    row = _template_for(request, pk)
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


def _form(request: HttpRequest, row: TaskTemplate) -> HttpResponse:
    form = TemplateForm(request.POST if request.method == "POST" else None, instance=row)
    if form.is_valid() and _is_saved(form):
        messages.success(request, f"Saved {row.name}.")
        return redirect("templates", row.project_id)
    # A rejected form has put what was typed into its row; the heading shows what is stored.
    stored = TaskTemplate.objects.filter(pk=row.pk).first() if row.pk else None
    latest = for_rows(Task.objects.filter(template=stored))[:LATEST] if stored else []
    context: dict[str, Any] = {"form": form, "template": stored}
    context |= {"latest": rows_of(latest, now=timezone.now())}
    context |= {"trail": trail_of(request.user, Kind.TEMPLATE, stored.pk) if stored else []}
    answer = page(
        request, "template_form.html", project=row.project, section="templates", **context
    )
    answer.status_code = 400 if form.errors else 200
    return answer


def _is_saved(form: TemplateForm) -> bool:
    try:
        save_template(
            template=form.instance,
            tags=form.cleaned_data["tags"],
            groups=form.group_ids,
            keys=form.key_names,
        )
    except TemplateNameTakenError as error:
        form.add_error("name", str(error))
    except ForgeError as error:
        form.add_error(None, str(error))
    except ValidationError as error:
        form.add_error(None, error.messages)  # type: ignore[arg-type]  # a list is accepted
    else:
        return True
    return False


@login_required
@require_POST
def run(request: HttpRequest, pk: int) -> HttpResponse:
    row = _template_for(request, pk)
    demand(request, row.project, Action.TASK_RUN)
    try:
        task = run_template(template=row, by=signed_in(request), now=timezone.now())
    except TemplateRemovedError as error:
        messages.error(request, str(error))
        return redirect("templates", row.project_id)
    return redirect("task", task.pk)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def remove(request: HttpRequest, pk: int) -> HttpResponse:
    row = _template_for(request, pk)
    demand(request, row.project, Action.TEMPLATE_CHANGE)
    if request.method == "POST":
        remove_template(template=row, now=timezone.now())
        messages.success(request, f"Removed {row.name}. Its tasks and their logs stay.")
        return redirect("templates", row.project_id)
    unfinished = Task.objects.filter(template=row).exclude(state__in=TERMINAL).count()
    context = {"template": row, "unfinished": unfinished}
    return page(
        request, "template_remove.html", project=row.project, section="templates", **context
    )
