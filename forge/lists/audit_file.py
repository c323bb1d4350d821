"""The audit log as a file, sent as it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import Http404, StreamingHttpResponse

from forge.streaming import streamed
from projects.audit.export import FORMS, exported

if TYPE_CHECKING:
    from django.http import HttpRequest

    from projects.audit.entry import AuditEntryQuerySet


def file_of(
    request: HttpRequest, rows: AuditEntryQuerySet, form: str, name: str
) -> StreamingHttpResponse:
    """Raises Http404 for a form that there is not."""
    if form not in FORMS:
        raise Http404
    return StreamingHttpResponse(
        streamed(request, exported(rows, form)),
        content_type=FORMS[form],
        headers={
            "Content-Disposition": f'attachment; filename="{name}.{form}"',
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        },
    )
