"""Templates: disable and enable, and the history of what was changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import ValidationError
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from forge.pages.access import demand, signed_in
from forge.pages.audit_words import lines_of
from forge.pages.only_posted import only_posted
from forge.pages.shell import page
from forge.pages.templates import template_for
from projects.audit.entry import AuditEntry, Kind
from projects.audit.reading import page_of
from projects.errors import ForgeError
from projects.permissions import Action
from projects.words import counted, whole_number
from tasks.disable_form import DisableForm
from tasks.models import Task, TaskTemplate
from tasks.operations import disable_template, enable_template

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

PAGE_ENTRIES = 20


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def disable(request: HttpRequest, pk: int) -> HttpResponse:
    """What disabling it leads to, with the reason, and the act."""
    row = template_for(request, pk)
    demand(request, row.project, Action.TEMPLATE_CHANGE)
    given = request.POST if request.method == "POST" else None
    form = DisableForm(given, initial={"reason": row.disabled_reason})
    if form.is_valid() and _is_disabled(request, row, form):
        messages.success(request, f"{row.name} is disabled.")
        return redirect("template", row.pk)
    unfinished = Task.objects.filter(template=row).unfinished().count()
    context = {"template": row, "form": form, "unfinished": unfinished}
    answer = page(
        request, "template_disable.html", project=row.project, section="templates", **context
    )
    answer.status_code = 400 if form.errors else 200
    return answer


def _is_disabled(request: HttpRequest, row: TaskTemplate, form: DisableForm) -> bool:
    reason = form.cleaned_data["reason"]
    try:
        disable_template(template=row, reason=reason, by=signed_in(request), now=timezone.now())
    except ForgeError as error:
        form.add_error(None, str(error))
    except ValidationError as error:
        form.add_error("reason", error.messages)  # type: ignore[arg-type]  # a list is accepted
    else:
        return True
    return False


@login_required
@only_posted("template")
def enable(request: HttpRequest, pk: int) -> HttpResponse:
    row = template_for(request, pk)
    demand(request, row.project, Action.TEMPLATE_CHANGE)
    if enable_template(template=row):
        messages.success(request, f"{row.name} can be run again.")
    return redirect("template", row.pk)


@login_required
@require_safe
def history(request: HttpRequest, pk: int) -> HttpResponse:
    """Who changed what of the template and when, the newest first, with the lines that differ."""
    row = template_for(request, pk)
    demand(request, row.project, Action.AUDIT_VIEW)
    entries = AuditEntry.objects.for_user(request.user).about(Kind.TEMPLATE, row.pk)
    found = page_of(
        entries,
        older_than=whole_number(request.GET.get("before", "")),
        newer_than=whole_number(request.GET.get("after", "")),
        length=PAGE_ENTRIES,
    )
    context = {
        "template": row,
        "lines": lines_of(found.rows),
        "newer_than": found.newer_than,
        "older_than": found.older_than,
        "sentence": f"{counted(entries.count(), 'change')} in all, the newest first.",
    }
    return page(
        request, "template_history.html", project=row.project, section="templates", **context
    )
