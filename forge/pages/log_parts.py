"""Parts of a task's log, for a page that never has all of it: some lines, and its outline."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from django.contrib.auth.decorators import login_required
from django.http import Http404, JsonResponse
from django.views.decorators.http import require_safe

from tasks.attempts import as_of_attempt
from tasks.log_lines import MAXIMUM_LINES, read_lines
from tasks.log_outline import outline as outline_of
from tasks.models import Task

if TYPE_CHECKING:
    from django.http import HttpRequest

LINES = 500


@login_required
@require_safe
def lines(request: HttpRequest, pk: int) -> JsonResponse:
    """`?from=1000&count=500`: see `tasks.log_lines.Lines`; bytes are in base64."""
    count = min(_number(request, "count", LINES), MAXIMUM_LINES)
    found = read_lines(_task(request, pk), first=_number(request, "from", 0), count=count)
    return _answer(
        first=found.first,
        count=found.count,
        lead=base64.b64encode(found.lead).decode(),
        data=base64.b64encode(found.data).decode(),
        long=[[one.place, one.omitted, one.rewritten] for one in found.long],
        times=[[place, at, int(is_receipt)] for place, at, is_receipt in found.times],
    )


@login_required
@require_safe
def outline(request: HttpRequest, pk: int) -> JsonResponse:
    """`?after=3`: see `tasks.log_outline.Outline`. Ask again until `is_all`."""
    found = outline_of(_task(request, pk), after=_number(request, "after", 0))
    return _answer(**vars(found))


def _task(request: HttpRequest, pk: int) -> Task:
    """The task with the log of the attempt that is asked for, or of the latest. Raises Http404."""
    task = Task.objects.for_user(request.user).without_scripts().filter(pk=pk).first()
    if task is not None and "attempt" in request.GET:
        task = as_of_attempt(task, _number(request, "attempt", 0))
    if task is None:
        raise Http404
    return task


def _number(request: HttpRequest, name: str, default: int) -> int:
    """Nonsense counts as nothing."""
    text = request.GET.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else default


def _answer(**content: Any) -> JsonResponse:
    answer = JsonResponse(content)
    answer["Cache-Control"] = "no-store"
    return answer
