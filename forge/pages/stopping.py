"""Stop one task, with what that leads to said before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from forge.pages.access import demand, signed_in
from forge.pages.shell import page
from forge.pages.task_view import is_forcible, is_stoppable
from forge.pages.tasks import task_for
from projects.permissions import Action
from tasks.errors import TaskFinishedError
from tasks.lifecycle import TaskState
from tasks.models import Task
from tasks.operations import force_stop_task, stop_task

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def stop(request: HttpRequest, pk: int) -> HttpResponse:
    return _answer(request, pk, "task_stop.html", is_stoppable, stop_task)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def force_stop(request: HttpRequest, pk: int) -> HttpResponse:
    return _answer(request, pk, "task_force_stop.html", is_forcible, force_stop_task)


def _answer(
    request: HttpRequest,
    pk: int,
    question: str,
    is_possible: Callable[[Task], bool],
    operation: Callable[..., object],
) -> HttpResponse:
    row = task_for(request, pk)
    demand(request, row.project, Action.TASK_STOP)
    if request.method != "POST":
        return _ask(request, row, question, is_possible=is_possible(row))
    is_back = request.POST.get("back") == "queue"
    try:
        operation(task=row, by=signed_in(request), now=timezone.now())
    except TaskFinishedError as error:
        messages.error(request, str(error))
    else:
        # The task's own page shows what becomes of it.
        if is_back:
            row.refresh_from_db(fields=["state"])
            messages.success(request, _said(row))
    return _to_queue(row) if is_back else redirect("task", row.pk)


def _said(task: Task) -> str:
    if task.is_finished:
        return f"Stopped #{task.pk}, {task.template}."
    return f"#{task.pk}, {task.template}, was told to stop."


def _to_queue(task: Task) -> HttpResponse:
    """With the focus on the task that stood behind this one, for whoever goes on there."""
    waiting = Task.objects.filter(project=task.project_id, state=TaskState.QUEUED)
    following = waiting.filter(pk__gt=task.pk).order_by("pk").first()
    place = f"task-{following.pk}" if following else "main"
    return redirect(f"{reverse('queue', args=[task.project_id])}#{place}")


def _ask(request: HttpRequest, row: Task, name: str, *, is_possible: bool) -> HttpResponse:
    back = "queue" if request.GET.get("back") == "queue" else ""
    told = {"task": row, "back": back, "is_possible": is_possible}
    return page(request, name, project=row.project, section="tasks", **told)
