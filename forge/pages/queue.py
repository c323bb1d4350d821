"""A project's queue: all that waits, in order, each with its place and its reason; stop all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from forge.lists.task_rows import for_rows, rows_of
from forge.pages.access import demand, project_for, signed_in
from forge.pages.shell import page
from projects.permissions import Action
from projects.words import counted, number, whole_number
from tasks.lifecycle import TaskState
from tasks.models import Task
from tasks.stopping import Part, Plan, plan_stop_all, stop_all

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from projects.models import Project
    from tasks.querysets import TaskQuerySet

PAGE_ROWS = 25
SCOPES = ("all", "waiting")


@login_required
@require_safe
def queue(request: HttpRequest, pk: int) -> HttpResponse:
    project = project_for(request, pk)
    waiting = Task.objects.filter(project=project).waiting().order_by()
    after, before = (whole_number(request.GET.get(name, "")) for name in ("after", "before"))
    context = _page_of(waiting, after=after, before=before)
    context |= _counts(project, waiting)
    name = "queue_live.html" if "part" in request.GET else "queue.html"
    return page(request, name, project=project, section="queue", **context)


def _page_of(rows: TaskQuerySet, *, after: int, before: int) -> dict[str, Any]:
    """One page by number, first in first out, so that the thousandth costs what the first does."""
    wanted = PAGE_ROWS + 1
    if before:
        backward = list(for_rows(rows.filter(pk__lt=before)).order_by("-pk")[:wanted])
        found, has_before, has_after = backward[:PAGE_ROWS][::-1], len(backward) == wanted, True
    else:
        forward = list(for_rows(rows.filter(pk__gt=after)).order_by("pk")[:wanted])
        found, has_before, has_after = forward[:PAGE_ROWS], bool(after), len(forward) == wanted
    place = f"&before={before}" if before else f"&after={after}" if after else ""
    return {
        "rows": rows_of(found, now=timezone.now()),
        "page_before": found[0].pk if found and has_before else None,
        "page_after": found[-1].pk if found and has_after else None,
        "place": place,
        "is_first": not (after or before),
    }


def _counts(project: Project, waiting: TaskQuerySet) -> dict[str, Any]:
    queued = waiting.filter(state=TaskState.QUEUED).count()
    unapproved = waiting.filter(state=TaskState.AWAITING_APPROVAL).count()
    running = Task.objects.filter(project=project).order_by().to_stop().count()
    return {
        "waiting": queued + unapproved,
        "sentence": _sentence(queued, unapproved),
        "is_stoppable": bool(queued + unapproved + running),
    }


def _sentence(queued: int, unapproved: int) -> str:
    approval = f"{number(unapproved)} need{'s' if unapproved == 1 else ''} approval."
    if not queued:
        return (
            approval if unapproved else "Nothing waits. A task stands here until a runner takes it."
        )
    line = f"{number(queued)} {'waits' if queued == 1 else 'wait'}, the first in line on top."
    return f"{line} {approval}" if unapproved else line


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def stop_everything(request: HttpRequest, pk: int) -> HttpResponse:
    """What a stop of all leads to; on POST the stop, or as much of it as fits into a request."""
    project = project_for(request, pk)
    demand(request, project, Action.TASK_STOP)
    until, scope = whole_number(request.POST.get("until", "")), request.POST.get("scope", "")
    if request.method != "POST" or not until or scope not in SCOPES:
        return _ask(request, project)
    part = stop_all(
        project=project,
        by=signed_in(request),
        now=timezone.now(),
        until=until,
        only_waiting=scope == "waiting",
    )
    done = [
        whole_number(request.POST.get(name, "")) + one
        for name, one in (("waited", part.waiting), ("ran", part.running))
    ]
    if part.remaining and part.waiting + part.running:
        return _go_on(request, project, part, done, until=until, scope=scope)
    messages.success(request, _done_in_words(*done))
    return redirect("queue", project.pk)


def _ask(request: HttpRequest, project: Project) -> HttpResponse:
    """The question. To a POST that does not say what to stop, it is the answer too."""
    plan = plan_stop_all(project)
    context = {"plan": plan, "all_words": _plan_in_words(plan)}
    answer = page(request, "stop_all.html", project=project, section="queue", **context)
    answer.status_code = 400 if request.method == "POST" else 200
    return answer


def _go_on(
    request: HttpRequest, project: Project, part: Part, done: list[int], **asked: object
) -> HttpResponse:
    """How far it is; the page asks for the next part by itself, or by a button."""
    total = sum(done) + part.remaining
    context = {"waited": done[0], "ran": done[1], "done": sum(done), "total": total, **asked}
    return page(request, "stop_all_going.html", project=project, section="queue", **context)


def _plan_in_words(plan: Plan) -> str:
    """`3 running tasks and 41 queued`, `41 queued tasks`."""
    if not plan.running:
        return counted(plan.waiting, "queued task")
    running = counted(plan.running, "running task")
    return f"{running} and {plan.waiting:,} queued" if plan.waiting else running


def _done_in_words(waited: int, ran: int) -> str:
    if not waited and not ran:
        return "There was nothing left to stop."
    parts = [f"Stopped {counted(waited, 'task')} that waited."] if waited else []
    if ran:
        parts.append(f"{counted(ran, 'running task was', 'running tasks were')} told to stop.")
    return " ".join(parts)
