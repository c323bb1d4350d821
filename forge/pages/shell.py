"""What every page of a project shows around its content: navigation, counts, permissions."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.shortcuts import render
from django.utils import timezone

from forge.lists.runner_filters import of_status
from projects.models import Project
from projects.permissions import ACTIONS_OF, Action
from runners.models import Runner
from runners.standing import status_in_database
from tasks.away import notice
from tasks.models import Task

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from runners.models import RunnerQuerySet

MAXIMUM_PROJECTS = 12


def page(
    request: HttpRequest, name: str, /, *, project: Project, section: str, **context: Any
) -> HttpResponse:
    """A page, or with `?part=` one of its live parts, of `project`."""
    context |= around(request, project) | {"section": section}
    return render(request, name, context)


def around(request: HttpRequest, project: Project) -> dict[str, Any]:
    role = project.role_of(request.user)
    allowed = ACTIONS_OF[role] if role else frozenset()
    others = Project.objects.for_user(request.user).exclude(pk=project.pk)
    return {
        "project": project,
        "notice": notice(timezone.now()),
        "other_projects": others[:MAXIMUM_PROJECTS],
        "now_held": Task.objects.filter(project=project).held().count(),
        "in_trouble": _runners_in_trouble(project),
        "may_run": Action.TASK_RUN in allowed,
        "may_stop": Action.TASK_STOP in allowed,
        "may_change_templates": Action.TEMPLATE_CHANGE in allowed,
        "may_change_runners": Action.RUNNER_CHANGE in allowed,
        "may_change_credentials": Action.CREDENTIAL_CHANGE in allowed,
        "may_read_audit": Action.AUDIT_VIEW in allowed,
        "may_change_project": Action.PROJECT_CHANGE in allowed,
    }


def _runners_in_trouble(project: Project) -> int:
    runners = Runner.objects.present().filter(project=project)
    return in_trouble(runners, now=timezone.now()).count()


def in_trouble(runners: RunnerQuerySet, *, now: datetime) -> RunnerQuerySet:
    """Those of the group `trouble`."""
    # Busy or idle, neither is trouble: what they hold need not be asked.
    standing = status_in_database(now, holding=Runner.objects.none().values("pk"))
    return of_status(runners.alias(standing=standing), "trouble", now=now)
