"""The first page: what happens in the projects of the user, the projects, and a new one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.auth.decorators import login_required
from django.db.models import Count, OuterRef, Subquery
from django.db.models.functions import Coalesce
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from forge.pages.access import signed_in
from forge.pages.activity import activity_of
from forge.pages.paging import Paged
from forge.pages.project_form import ProjectForm
from forge.pages.words import counted, number, whole_number
from projects.errors import ProjectNameTakenError
from projects.models import Membership, Project
from projects.operations import create_project
from runners.models import Runner
from tasks.lifecycle import HELD, TaskState
from tasks.models import Task

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse

PAGE_PROJECTS = 25


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def home(request: HttpRequest) -> HttpResponse:
    form = ProjectForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            project = create_project(
                **form.cleaned_data, owner=signed_in(request), now=timezone.now()
            )
            return redirect("project", project.pk)
        except ProjectNameTakenError as error:
            form.add_error("name", str(error))
    user = signed_in(request)
    projects = Paged(_projects(user), whole_number(request.GET.get("page", "")), PAGE_PROJECTS)
    sentence = _sentence(user, projects.count)
    context: dict[str, Any] = {"projects": projects, "sentence": sentence, "form": form}
    if projects.rows:
        context["activity"] = activity_of(user, now=timezone.now())
    name = "home_live.html" if "part" in request.GET else "home.html"
    return render(request, name, context, status=400 if form.errors else 200)


def _projects(user: User) -> QuerySet[Project]:
    """With counts; each is a subquery of its own, so that none multiplies another."""
    tasks = Task.objects.filter(project=OuterRef("pk")).order_by().values("project")
    runners = Runner.objects.present().filter(project=OuterRef("pk")).order_by().values("project")
    role = Membership.objects.filter(project=OuterRef("pk"), user=user).values("role")
    return Project.objects.for_user(user).annotate(
        running=_count(tasks.filter(state__in=HELD)),
        waiting=_count(tasks.filter(state=TaskState.QUEUED)),
        runner_count=_count(runners),
        role=Subquery(role),
    )


def _count(rows: QuerySet[Any, Any]) -> Coalesce:
    return Coalesce(Subquery(rows.annotate(found=Count("pk")).values("found")), 0)


def _sentence(user: User, count: int) -> str:
    if not count:
        return "No projects yet. A project holds members, templates and runners."
    tasks = Task.objects.for_user(user).order_by()
    running = tasks.held().count()
    waiting = tasks.filter(state=TaskState.QUEUED).count()
    line = f"{waiting:,} {'waits' if waiting == 1 else 'wait'}"
    now = f"{counted(running, 'task runs', 'tasks run')} now, {line}"
    return f"{number(count)} {'project' if count == 1 else 'projects'}. {now}."
