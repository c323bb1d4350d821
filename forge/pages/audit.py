"""The audit log: of a project, of the whole installation, and as a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.contrib.auth.decorators import login_required
from django.core.exceptions import BadRequest, PermissionDenied
from django.shortcuts import render
from django.views.decorators.http import require_safe

from forge.lists.audit_file import file_of
from forge.pages.access import demand, project_for
from forge.pages.audit_words import lines_of
from forge.pages.shell import page
from forge.pages.time_span import as_field
from projects.audit.entry import AuditEntry, AuditEntryQuerySet
from projects.audit.reading import Filters, page_of
from projects.permissions import Action
from projects.words import whole_number

if TYPE_CHECKING:
    from datetime import datetime

    from django.http import HttpRequest, HttpResponse, StreamingHttpResponse

    from projects.models import Project


@login_required
@require_safe
def of_project(request: HttpRequest, pk: int) -> HttpResponse:
    project = _readable(request, pk)
    rows = AuditEntry.objects.filter(project_id=project.pk)
    return page(request, "audit.html", project=project, section="audit", **_context(request, rows))


@login_required
@require_safe
def of_all(request: HttpRequest) -> HttpResponse:
    _demand_administrator(request)
    context = _context(request, _everything(request))
    return render(request, "audit.html", context | {"section": "audit"})


def _everything(request: HttpRequest) -> AuditEntryQuerySet:
    """All entries that this administrator may see, which is all."""
    return AuditEntry.objects.for_user(request.user)


def _readable(request: HttpRequest, pk: int) -> Project:
    project = project_for(request, pk)
    demand(request, project, Action.AUDIT_VIEW)
    return project


def _demand_administrator(request: HttpRequest) -> None:
    if not request.user.is_superuser:
        raise PermissionDenied(
            "The audit log of the whole installation is for administrators. That of a project is "
            "for its managers and owners, on the project's own page."
        )


def _context(request: HttpRequest, rows: AuditEntryQuerySet) -> dict[str, Any]:
    filters = Filters(request.GET)
    found = page_of(
        filters.apply(rows),
        older_than=whole_number(request.GET.get("before", "")),
        newer_than=whole_number(request.GET.get("after", "")),
    )
    is_unreadable = not filters.is_valid()
    return {
        "filters": filters,
        "lines": lines_of(found.rows),
        "newer_query": filters.query(after=found.newer_than) if found.newer_than else "",
        "older_query": filters.query(before=found.older_than) if found.older_than else "",
        "chips": _chips(filters),
        "more_is_open": bool({"way", "address", "since", "until"} & filters.asked.keys()),
        "ends": _ends(filters),
        "is_unreadable": is_unreadable,
    }


@dataclass(frozen=True)
class End:
    """One end of a span of time, as a field of the form: `local` in Forge's zone.

    given: what stands in the address and is no moment, to be corrected where it was typed.
    """

    name: str
    label: str
    given: str
    at: datetime | None
    local: str


def _ends(filters: Filters) -> list[End]:
    """Of filters that were read."""
    found = []
    for name in ("since", "until"):
        at = filters.cleaned_data.get(name)
        given = "" if at else filters.asked.get(name, "")
        found.append(End(name, str(filters[name].label), given, at, as_field(at)))
    return found


def _chips(filters: Filters) -> list[tuple[str, str, str]]:
    """Of filters that no field shows: label, value, and the query without it."""
    number = filters.asked.get("object")
    return [("Number", f"#{number}", filters.query_without("object"))] if number else []


@login_required
@require_safe
def export_of_project(request: HttpRequest, pk: int, form: str) -> StreamingHttpResponse:
    project = _readable(request, pk)
    rows = AuditEntry.objects.filter(project_id=project.pk)
    return _file(request, rows, form, f"audit-project-{project.pk}")


@login_required
@require_safe
def export_of_all(request: HttpRequest, form: str) -> StreamingHttpResponse:
    _demand_administrator(request)
    return _file(request, _everything(request), form, "audit")


def _file(
    request: HttpRequest, rows: AuditEntryQuerySet, form: str, name: str
) -> StreamingHttpResponse:
    """Raises BadRequest for filters that cannot be read: an empty file would be a wrong answer."""
    filters = Filters(request.GET)
    if not filters.is_valid():
        raise BadRequest(
            " ".join(str(error) for found in filters.errors.values() for error in found)
        )
    return file_of(request, filters.apply(rows), form, name)
