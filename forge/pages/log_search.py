"""Search in a task's log, for the log viewer's search field."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth.decorators import login_required
from django.http import JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_safe

from tasks.log_search import MAXIMUM_TEXT, find_lines
from tasks.models import Task

if TYPE_CHECKING:
    from django.http import HttpRequest


@login_required
@require_safe
def search(request: HttpRequest, pk: int) -> JsonResponse:
    """`?q=…`: `{"lines": [12, 40], "total": 2}`; see `tasks.log_search.Found`."""
    task = get_object_or_404(Task.objects.for_user(request.user), pk=pk)
    found = find_lines(task, request.GET.get("q", "")[:MAXIMUM_TEXT])
    answer = JsonResponse({"lines": found.lines, "total": found.total})
    answer["Cache-Control"] = "no-store"
    return answer
