"""A project's overview."""

from __future__ import annotations

from datetime import datetime
from statistics import median
from typing import TYPE_CHECKING, Any

from django.contrib.auth.decorators import login_required
from django.utils import timezone
from django.views.decorators.http import require_safe

from forge.pages import charts, fleet
from forge.pages.access import project_for
from forge.pages.shell import page
from forge.pages.task_rows import for_rows, rows_of
from forge.pages.words import counted, duration_in_words, number
from tasks.lifecycle import TaskState
from tasks.models import Task

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from projects.models import Project

LATEST = 10
SAMPLE = 100
# Of the runners in trouble; the runners' page has them all, these first.
SHOWN = 8
CHART_WIDTHS = (560, 326)


@login_required
@require_safe
def overview(request: HttpRequest, pk: int) -> HttpResponse:
    project = project_for(request, pk)
    name = "overview_live.html" if "part" in request.GET else "overview.html"
    context = _context(project, timezone.now())
    return page(request, name, project=project, section="overview", **context)


def _context(project: Project, now: datetime) -> dict[str, Any]:
    tasks = Task.objects.filter(project=project)
    runners = fleet.rows_of(project, now=now)
    trouble = [row for row in runners if row.is_in_trouble]
    waiting = tasks.filter(state=TaskState.QUEUED).count()
    running = tasks.held().count()
    return {
        "rows": rows_of(for_rows(tasks)[:LATEST], now=now),
        "runner_count": len(runners),
        "trouble": fleet.shown(trouble[:SHOWN], now=now),
        "more_trouble": max(len(trouble) - SHOWN, 0),
        "waiting": waiting,
        "sentence": _sentence(running, waiting, runners),
        "busy": sum(len(row.held) for row in runners if row.is_online),
        "in_service": sum(row.runner.concurrency for row in runners if row.is_online),
        "figures": _figures(project),
        **_charts(project, now),
        "has_templates": project.templates.filter(removed_at=None).exists(),
    }


def _charts(project: Project, now: datetime) -> dict[str, Any]:
    """Wide and narrow drawings of the last day; nothing when it was empty."""
    hours = charts.last_day(project, now=now)
    if not any(hour.total or hour.waits for hour in hours):
        return {}
    return {
        "hours": hours,
        "bars": [charts.tasks_per_hour(hours, width) for width in CHART_WIDTHS],
        "waits": [charts.queue_wait(hours, width) for width in CHART_WIDTHS],
        "finished_today": sum(hour.total for hour in hours),
        "failed_today": sum(hour.failed for hour in hours),
    }


def _sentence(running: int, waiting: int, runners: list[fleet.RunnerRow]) -> str:
    now = f"{number(running)} {'task runs' if running == 1 else 'tasks run'} now"
    if not running:
        now = "No task runs now"
    line = f"{waiting:,} {'waits' if waiting == 1 else 'wait'} for a runner"
    sentence = f"{now}, {line}." if waiting else f"{now}, none waits."
    if runners and not any(row.is_online for row in runners):
        return f"{sentence} No runner is online."
    return sentence


def _figures(project: Project) -> dict[str, str]:
    """Figures of the latest finished tasks; empty without any."""
    times = Task.objects.filter(project=project).finished().order_by("-pk")
    fields = ("state", "created_at", "claimed_at", "started_at", "finished_at")
    rows = list(times.values_list(*fields)[:SAMPLE])
    if not rows:
        return {}
    good = sum(1 for row in rows if row[0] == TaskState.SUCCEEDED)
    bad = sum(1 for row in rows if row[0] in (TaskState.FAILED, TaskState.LOST))
    waits = [(row[2] - row[1]).total_seconds() for row in rows if row[2]]
    lengths = [(row[4] - row[3]).total_seconds() for row in rows if row[3] and row[4]]
    return {
        "rate": f"{100 * good / max(good + bad, 1):.0f} %" if good + bad else "–",
        "bad": f"{bad} of {counted(len(rows), 'latest task')} failed",
        "wait": duration_in_words(median(waits)) if waits else "–",
        "longest_wait": f"longest {duration_in_words(max(waits))}" if waits else "",
        "length": duration_in_words(median(lengths)) if lengths else "–",
        "longest": f"longest {duration_in_words(max(lengths))}" if lengths else "",
    }
