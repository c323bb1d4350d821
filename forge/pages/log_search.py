"""Search in a task's log, for the log viewer's search field."""

from __future__ import annotations

import threading
from dataclasses import asdict
from http import HTTPStatus
from typing import TYPE_CHECKING

from django.contrib.auth.decorators import login_required
from django.db import close_old_connections
from django.http import JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_safe

from forge.pages.access import signed_in
from projects.words import whole_number
from tasks.log_search import MAXIMUM_TEXT, Found, find_lines
from tasks.models import Task

if TYPE_CHECKING:
    from django.http import HttpRequest

PATIENCE_SECONDS = 30.0
# By user: a search through a long log takes seconds of the whole process, and one at a time of
# each leaves the others their share.
_turns: dict[int, threading.Lock] = {}


@login_required
@require_safe
def search(request: HttpRequest, pk: int) -> JsonResponse:
    """`?q=…`: `{"lines": [12, 40], "total": 2, "first": 0, "partly": 0}`; see `Found`.

    `skip` and `near` say which of very many hits are wanted.
    """
    task = get_object_or_404(Task.objects.for_user(request.user).without_scripts(), pk=pk)
    turn = _turns.setdefault(signed_in(request).pk, threading.Lock())
    if not _has_come(turn):
        words = "Other searches of yours are under way. Try again when they have ended."
        return JsonResponse({"message": words}, status=HTTPStatus.TOO_MANY_REQUESTS)
    try:
        found = _found(request, task)
    finally:
        turn.release()
    answer = JsonResponse(asdict(found))
    answer["Cache-Control"] = "no-store"
    return answer


def _has_come(turn: threading.Lock) -> bool:
    if turn.acquire(blocking=False):
        return True
    # Whoever waits must not keep one of the pool's connections.
    close_old_connections()
    return turn.acquire(timeout=PATIENCE_SECONDS)


def _found(request: HttpRequest, task: Task) -> Found:
    skip, near = (whole_number(request.GET.get(name, "")) for name in ("skip", "near"))
    return find_lines(task, request.GET.get("q", "")[:MAXIMUM_TEXT], skip=skip, near=near)
