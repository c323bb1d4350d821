"""The first page: what happens in the projects of the user, the projects, and a new one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import Count, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from forge.pages.access import signed_in
from forge.pages.activity import Activity, activity_of
from forge.pages.paging import Paged
from forge.pages.project_form import ProjectForm
from forge.pages.standstill import out_of_reach
from projects.errors import ProjectNameTakenError
from projects.models import Membership, Project
from projects.operations import create_project
from projects.words import counted, number, whole_number
from runners.models import Runner
from tasks.away import notice
from tasks.lifecycle import TaskState
from tasks.models import Task

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse

PAGE_PROJECTS = 25
MAXIMUM_TEXT = 80
NO_PROJECTS = "No projects yet. A project holds members, templates and runners."


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def home(request: HttpRequest) -> HttpResponse:
    form = ProjectForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            project = create_project(
                **form.cleaned_data, owner=signed_in(request), now=timezone.now()
            )
        except ProjectNameTakenError as error:
            form.add_error("name", str(error))
        else:
            messages.success(request, f"Created {project.name}.")
            return redirect("project", project.pk)
    part = request.GET.get("part", "")
    context = _projects_of(request) if part != "live" else {}
    context |= {"form": form} | (_activity(signed_in(request)) if part != "projects" else {})
    name = {"live": "home_live.html", "projects": "home_projects.html"}.get(part, "home.html")
    answer = render(request, name, context, status=400 if form.errors else 200)
    if part == "projects":
        # What is typed stands in the address, to be kept and sent on.
        query = context["page_query"]
        answer["HX-Replace-Url"] = f"{request.path}?{query}" if query else request.path
    return answer


def _projects_of(request: HttpRequest) -> dict[str, Any]:
    """One page of the projects whose name or description has the text, if one is given."""
    user = signed_in(request)
    text = request.GET.get("q", "").replace("\0", "").strip()[:MAXIMUM_TEXT]
    rows = _projects(user)
    if text:
        rows = rows.filter(Q(name__icontains=text) | Q(description__icontains=text))
    projects = Paged(rows, whole_number(request.GET.get("page", "")), PAGE_PROJECTS)
    return {
        "projects": projects,
        "text": text,
        "page_query": urlencode({"q": text} if text else {}),
    }


def _activity(user: User) -> dict[str, Any]:
    """What happens in all projects, whichever of them are listed."""
    count = Project.objects.for_user(user).count()
    if not count:
        return {"sentence": NO_PROJECTS}
    now = timezone.now()
    activity = activity_of(user, now=now)
    sentence = _sentence(user, count, activity)
    return {
        "activity": activity,
        "sentence": sentence,
        "all_count": count,
        "notice": notice(now),
    }


def _projects(user: User) -> QuerySet[Project]:
    """With counts; each is a subquery of its own, so that none multiplies another."""
    tasks = Task.objects.filter(project=OuterRef("pk")).order_by()
    runners = Runner.objects.present().filter(project=OuterRef("pk")).order_by().values("project")
    role = Membership.objects.filter(project=OuterRef("pk"), user=user).values("role")
    return Project.objects.for_user(user).annotate(
        running=_count(tasks.held().values("project")),
        waiting=_count(tasks.filter(state=TaskState.QUEUED).values("project")),
        runner_count=_count(runners),
        role=Subquery(role),
    )


def _count(rows: QuerySet[Any, Any]) -> Coalesce:
    return Coalesce(Subquery(rows.annotate(found=Count("pk")).values("found")), 0)


def _sentence(user: User, count: int, activity: Activity) -> str:
    waiting = Task.objects.for_user(user).filter(state=TaskState.QUEUED).order_by().count()
    unreachable = activity.unreachable_count
    parts = [f"{counted(activity.running_count - unreachable, 'task runs', 'tasks run')} now"]
    if unreachable:
        parts.append(out_of_reach(unreachable))
    now = ", ".join([*parts, f"{waiting:,} {'waits' if waiting == 1 else 'wait'}"])
    return f"{number(count)} {'project' if count == 1 else 'projects'}. {now}."
