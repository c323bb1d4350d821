"""Change what a runner takes: its tags, tasks without tags, and how many at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import ValidationError
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_http_methods

from forge.pages import versions
from forge.pages.access import demand
from forge.pages.audit_words import trail_of
from forge.pages.runner_form import RunnerChangeForm
from forge.pages.shell import page
from projects.audit.entry import Kind
from projects.errors import ForgeError
from projects.permissions import Action
from projects.secret_fields import add_problems
from runners.models import Runner
from runners.operations import change_runner
from tasks.models import Task
from tasks.unserved import unserved

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def change(request: HttpRequest, pk: int) -> HttpResponse:
    rows = Runner.objects.for_user(request.user).select_related("project")
    runner = get_object_or_404(rows.prefetch_related("tags"), pk=pk)
    demand(request, runner.project, Action.RUNNER_CHANGE)
    known = {
        "tags": ", ".join(tag.name for tag in runner.tags.all()),
        "concurrency": runner.concurrency,
        "takes_untagged": runner.takes_untagged,
    }
    mark = versions.mark_of(runner, Kind.RUNNER)
    form = RunnerChangeForm(request.POST if request.method == "POST" else None, initial=known)
    if form.is_valid() and _changed(request, runner, form):
        return redirect("runner", runner.pk)
    told = {
        "runner": runner,
        "form": form,
        "running": Task.objects.held_by(runner).count(),
        "trail": trail_of(request.user, Kind.RUNNER, runner.pk),
    }
    told |= versions.told(request, form, runner, Kind.RUNNER, mark=mark)
    answer = page(request, "runner_change.html", project=runner.project, section="runners", **told)
    answer.status_code = versions.status_of(form)
    return answer


def _changed(request: HttpRequest, runner: Runner, form: RunnerChangeForm) -> bool:
    given = {name: form.cleaned_data[name] for name in form.changed_data}
    tags = given.pop("tags", None)
    before = unserved(runner.project)
    try:
        version = versions.version_from(request)
        change_runner(runner=runner, changes=given, tags=tags, version=version)
    except ForgeError as error:
        versions.refuse(form, error)
        return False
    except ValidationError as error:
        add_problems(form, error)
        return False
    messages.success(request, f"Saved what {runner} takes.")
    stranded = unserved(runner.project) - before
    if stranded > 0:
        are = "task that waits" if stranded == 1 else "tasks that wait"
        messages.warning(request, f"{stranded} {are} can be taken by no runner now.")
    return True
