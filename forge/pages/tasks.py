"""Tasks: the list, and one task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.contrib.auth.decorators import login_required
from django.db.models import Count
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.views.decorators.http import require_safe

from forge.lists.task_rows import grouped, newer_in_words, rows_of, tasks_sentence
from forge.pages import task_search, time_span
from forge.pages.access import project_for
from forge.pages.shell import page
from forge.pages.task_address import understood
from forge.pages.task_filters import NAMES, SEGMENTS, STATES, menus, narrowed
from forge.pages.task_search import Found
from forge.pages.task_view import task_context
from projects.words import whole_number
from tasks.lifecycle import UNFINISHED, TaskState
from tasks.models import Task

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse, QueryDict

    from projects.models import Project
    from tasks.querysets import TaskQuerySet

PAGE_ROWS = 25
MAXIMUM_NEWER = 99


@login_required
@require_safe
def tasks(request: HttpRequest, pk: int) -> HttpResponse:
    project = project_for(request, pk)
    query, misread = understood(request.GET, project=project, states=STATES)
    rows = _filtered(project, query)
    rows = narrowed(rows, query, project=project, now=timezone.now())
    found = task_search.found(rows, query.get("q", ""), project=project)
    context = _states(project) | _page_of(found, query) | _filters(query)
    name = "tasks_live.html" if "part" in request.GET else "tasks.html"
    if name == "tasks.html":
        context |= {"menus": menus(project, query), "misread": misread}
        context |= {"ends": time_span.ends(query, NAMES)}
    return page(request, name, project=project, section="tasks", **context)


def _filtered(project: Project, query: QueryDict) -> TaskQuerySet:
    """Apply what the address says of states, templates and runners."""
    rows = Task.objects.filter(project=project)
    if wanted := STATES.get(query.get("state", "")):
        # Sorted, as in the conditions of the indexes: SQLite compares them word by word.
        rows = rows.filter(state__in=sorted(wanted[1]))
    for field in ("template", "runner"):
        if given := query.get(field):
            rows = rows.filter(**{f"{field}_id": whole_number(given)})
    return rows


def _page_of(tasks: Found, query: QueryDict) -> dict[str, Any]:
    """One page by id, so that page 1000 of a million rows costs what page 1 does.

    `before` and `after` page; `top` keeps the newest row of a page that refreshes itself, and
    what is newer is counted instead of pushed in under the reader's pointer.
    """
    older_than, newer_than = (whole_number(query.get(name, "")) for name in ("before", "after"))
    top = whole_number(query.get("top", ""))
    wanted = PAGE_ROWS + 1
    if newer_than:
        upward = tasks.oldest(wanted, pk__gt=newer_than)
        found, has_newer, has_older = upward[:PAGE_ROWS][::-1], len(upward) == wanted, True
    else:
        limits = {"pk__lt": older_than, "pk__lte": top}
        downward = tasks.newest(wanted, **{name: at for name, at in limits.items() if at})
        found, has_newer = downward[:PAGE_ROWS], bool(older_than)
        has_older = len(downward) == wanted
    active = _active(found, query)
    first = top or (found[0].pk if found else 0)
    # Nothing is newer than the first row of a page that has just been opened.
    newer = tasks.count(MAXIMUM_NEWER + 1, pk__gt=top) if top and not has_newer else 0
    return {
        "rows": grouped(rows_of(found, now=timezone.now()), active),
        "newer_than": found[0].pk if found and has_newer else None,
        "older_than": found[-1].pk if found and has_older else None,
        "newer": newer_in_words(newer, MAXIMUM_NEWER),
        "is_first": not (older_than or newer_than or (top and newer)),
        "live_query": _query(
            query,
            before=older_than,
            after=newer_than,
            top=first,
            active=".".join(map(str, sorted(active))),
            part="rows",
        ),
    }


def _active(found: list[Task], query: QueryDict) -> set[int]:
    """The tasks that were active when the page was opened: until it is opened anew they stay where
    they are, whatever becomes of them."""
    if "part" in query:
        return set(map(whole_number, query.get("active", "").split(".")[:PAGE_ROWS]))
    return {task.pk for task in found if not task.is_finished}


def _query(query: QueryDict, **more: object) -> str:
    kept = {name: query[name] for name in NAMES if query.get(name)}
    return urlencode(kept | {name: value for name, value in more.items() if value})


def _states(project: Project) -> dict[str, Any]:
    rows = Task.objects.filter(project=project, state__in=sorted(UNFINISHED)).order_by()
    counts = dict(rows.values_list("state").annotate(Count("pk")))
    states = [(state.value, counts.get(state.value, 0)) for state in TaskState]
    return {"sentence": tasks_sentence(states), "active_count": sum(counts.values())}


def _filters(query: QueryDict) -> dict[str, Any]:
    others = {name: query[name] for name in NAMES[1:] if query.get(name)}
    current = query.get("state", "")
    segments = [("", "All"), *SEGMENTS.items()]
    return {
        "segments": [
            (key, label, key == current, urlencode({"state": key} | others if key else others))
            for key, label in segments
        ],
        "text": query.get("q", ""),
        "filter_query": _query(query),
        "is_filtered": any(query.get(name) for name in NAMES),
    }


def task_for(request: HttpRequest, pk: int) -> Task:
    rows = Task.objects.for_user(request.user)
    related = ("project", "template", "runner", "queue", "created_by")
    return get_object_or_404(rows.select_related(*related), pk=pk)


@login_required
@require_safe
def task(request: HttpRequest, pk: int) -> HttpResponse:
    row = task_for(request, pk)
    context = task_context(row, now=timezone.now())
    return page(request, "task.html", project=row.project, section="tasks", **context)
