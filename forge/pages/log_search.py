"""Search in a task's log, for the log viewer's search field."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth.decorators import login_required
from django.http import JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_safe

from projects.words import whole_number
from tasks.log_search import MAXIMUM_TEXT, find_lines
from tasks.models import Task

if TYPE_CHECKING:
    from django.http import HttpRequest


@login_required
@require_safe
def search(request: HttpRequest, pk: int) -> JsonResponse:
    """`?q=…`: `{"lines": [12, 40], "total": 2, "first": 0}`; see `tasks.log_search.Found`.

    `skip` and `near` say which of very many hits are wanted.
    """
    task = get_object_or_404(Task.objects.for_user(request.user).without_scripts(), pk=pk)
    skip, near = (whole_number(request.GET.get(name, "")) for name in ("skip", "near"))
    found = find_lines(task, request.GET.get("q", "")[:MAXIMUM_TEXT], skip=skip, near=near)
    answer = JsonResponse({"lines": found.lines, "total": found.total, "first": found.first})
    answer["Cache-Control"] = "no-store"
    return answer
