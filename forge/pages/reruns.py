"""Run the template of a task again, with what has changed since said before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from forge.pages.access import demand, signed_in
from forge.pages.audit_words import Line, lines_of
from forge.pages.shell import page
from forge.pages.tasks import task_for
from projects.audit.entry import AuditEntry, Kind, Verb
from projects.permissions import Action
from projects.versions import version_of
from projects.words import listed
from tasks.errors import TemplateNotRunnableError
from tasks.operations import run_template
from tasks.template_changes import OF_NO_RUN, changed_parts, why_not_runnable

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from tasks.models import Task

SHOWN = 5
READ = 50


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def rerun(request: HttpRequest, pk: int) -> HttpResponse:
    """Run it as the template is now.

    Where that is not what the task ran, the question comes first: `seen` is the version of the
    template that it told of, so that one agrees to what was shown.
    """
    row = task_for(request, pk)
    demand(request, row.project, Action.TASK_RUN)
    if request.method != "POST":
        return _ask(request, row)
    if _asks_first(request, row):
        return redirect("task-rerun", row.pk)
    try:
        again = run_template(
            template=row.template, by=signed_in(request), now=timezone.now(), rerun_of=row
        )
    except TemplateNotRunnableError as error:
        messages.error(request, str(error))
        return redirect("task", row.pk)
    return redirect("task", again.pk)


def _asks_first(request: HttpRequest, row: Task) -> bool:
    if why_not_runnable(row.template) or not changed_parts(row):
        return False
    return request.POST.get("seen") != version_of(row.template)


def _ask(request: HttpRequest, row: Task) -> HttpResponse:
    changes = _changes(request, row)
    context = {
        "task": row,
        "refusal": str(why_not_runnable(row.template) or ""),
        "parts": listed(changed_parts(row)),
        "lines": changes[:SHOWN],
        "more": len(changes) > SHOWN,
        "seen": version_of(row.template),
    }
    return page(request, "task_rerun.html", project=row.project, section="tasks", **context)


def _changes(request: HttpRequest, row: Task) -> list[Line]:
    """Who changed what since it was queued, the newest first, for those who may read the log."""
    entries = AuditEntry.objects.for_user(request.user).about(Kind.TEMPLATE, row.template_id)
    lines = lines_of(entries.filter(verb=Verb.CHANGED, at__gt=row.created_at)[:READ])
    return [line for line in lines if line.entry.changes.keys() - OF_NO_RUN]
