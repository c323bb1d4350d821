"""A project's own settings: what it is called, what it is for, and its limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods

from forge.pages import versions
from forge.pages.access import demand, project_for
from forge.pages.audit_words import trail_of
from forge.pages.project_form import ProjectSettingsForm
from forge.pages.shell import page
from projects.audit.entry import Kind
from projects.errors import ForgeError
from projects.operations import change_project
from projects.permissions import Action
from tasks.models import Task

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from projects.models import Project


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def settings(request: HttpRequest, pk: int) -> HttpResponse:
    project = project_for(request, pk)
    demand(request, project, Action.PROJECT_CHANGE)
    known = {field: getattr(project, field) for field in ProjectSettingsForm.base_fields}
    mark = versions.mark_of(project, Kind.PROJECT)
    form = ProjectSettingsForm(request.POST if request.method == "POST" else None, initial=known)
    if form.is_valid() and _is_saved(project, form, versions.version_from(request)):
        messages.success(request, f"Saved the settings of {project.name}.")
        return redirect("project-settings", project.pk)
    # Of what was refused nothing stays in the page but in its fields.
    for field, value in known.items():
        setattr(project, field, value)
    told = {
        "form": form,
        "running": Task.objects.filter(project=project).held().count(),
        "trail": trail_of(request.user, Kind.PROJECT, project.pk),
    }
    told |= versions.told(request, form, project, Kind.PROJECT, mark=mark)
    answer = page(request, "project_settings.html", project=project, section="settings", **told)
    answer.status_code = versions.status_of(form)
    return answer


def _is_saved(project: Project, form: ProjectSettingsForm, version: str) -> bool:
    changes = {field: form.cleaned_data[field] for field in form.changed_data}
    try:
        if changes:
            change_project(project=project, changes=changes, version=version)
    except ForgeError as error:
        versions.refuse(form, error)
    else:
        return True
    return False
