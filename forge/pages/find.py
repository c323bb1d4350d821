"""Find or run: the page that the palette asks, and that works without a script."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.auth.decorators import login_required
from django.shortcuts import render
from django.views.decorators.http import require_safe

from forge.pages.access import signed_in
from forge.pages.finding import Wish, groups_for
from forge.pages.shell import page
from projects.models import Project
from projects.words import whole_number

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


@login_required
@require_safe
def find(request: HttpRequest) -> HttpResponse:
    """With `?part=` the options of the palette's list alone."""
    user, wish = signed_in(request), Wish.of(request.GET.get("q", ""))
    number = whole_number(request.GET.get("project", ""))
    # Others' projects and nonsense mean no project: what is found is what the user may see.
    project = Project.objects.for_user(user).filter(pk=number).first() if number else None
    context: dict[str, Any] = {"text": wish.text, "words": wish.words}
    context |= {"groups": groups_for(user, wish, project)}
    if "part" in request.GET:
        return render(request, "find_list.html", context)
    if project:
        return page(request, "find.html", project=project, section="find", **context)
    return render(request, "find.html", context | {"section": "find"})
