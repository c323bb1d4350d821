"""A project's overview."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from django.contrib.auth.decorators import login_required
from django.utils import timezone
from django.views.decorators.http import require_safe

from forge.lists.task_rows import for_rows, rows_of
from forge.pages import charts, fleet, standstill
from forge.pages.access import project_for
from forge.pages.periods import (
    PERIODS,
    Capacity,
    Figures,
    Period,
    figures_of,
    period_named,
    uses_of,
)
from forge.pages.shell import page
from projects.words import about, counted, duration_in_words, number
from tasks.candidates import Situation
from tasks.lifecycle import TaskState
from tasks.models import Task

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from projects.models import Project

LATEST = 10
# Of runners in each list; the runners' page has them all, these first.
SHOWN = 8
LONG_WAIT = timedelta(minutes=5)
CHART_WIDTHS = (560, 326)


@login_required
@require_safe
def overview(request: HttpRequest, pk: int) -> HttpResponse:
    project = project_for(request, pk)
    name = "overview_live.html" if "part" in request.GET else "overview.html"
    period = period_named(request.GET.get("period", ""))
    context = _context(project, period, timezone.now())
    return page(request, name, project=project, section="overview", **context)


def _context(project: Project, period: Period, now: datetime) -> dict[str, Any]:
    tasks = Task.objects.filter(project=project)
    runners = fleet.rows_of(project, now=now)
    trouble = [row for row in runners if row.is_in_trouble]
    waiting = tasks.filter(state=TaskState.QUEUED).count()
    unreachable = tasks.filter(state=TaskState.UNREACHABLE).count()
    running = tasks.held().count() - unreachable
    figures = figures_of(project, period, now=now)
    held = [(row.runner, len(row.held)) for row in runners]
    situation = partial(Situation, now=now, runners=held)
    return {
        "period": period,
        "periods": PERIODS.values(),
        "rows": rows_of(for_rows(tasks)[:LATEST], now=now, situation_of=situation),
        "runner_count": len(runners),
        "trouble": fleet.shown(trouble[:SHOWN], now=now),
        "more_trouble": max(len(trouble) - SHOWN, 0),
        "sentence": _sentence(running, unreachable, waiting, runners),
        "busy": sum(len(row.held) for row in runners if row.is_online),
        "in_service": sum(row.runner.slots for row in runners if row.is_online),
        "figures": _in_words(figures),
        "waits_long": _waits_long(project, now),
        **_uses(figures, runners, now),
        **_charts(figures, period),
        "has_templates": project.templates.filter(removed_at=None).exists(),
    }


def _waits_long(project: Project, now: datetime) -> tuple[Task, str] | None:
    """The task that has waited longest, and for how long, if that is worth a look."""
    waiting = Task.objects.filter(project=project, state=TaskState.QUEUED)
    first = waiting.order_by("queued_at", "pk").only("pk", "queued_at").first()
    if first is None or now - first.queued_at < LONG_WAIT:
        return None
    return first, about((now - first.queued_at).total_seconds())


def _uses(figures: Figures, runners: list[fleet.RunnerRow], now: datetime) -> dict[str, Any]:
    offers = [
        Capacity(
            row.runner.pk,
            row.runner.name,
            row.runner.slots,
            row.runner.created_at,
            row.is_online,
        )
        for row in runners
        if row.runner.last_heartbeat_at is not None
    ]
    uses, share = uses_of(offers, figures.held, begin=figures.begin, now=now)
    return {
        "uses": uses[:SHOWN],
        "more_uses": max(len(uses) - SHOWN, 0),
        "use_percent": round(100 * share),
    }


def _charts(figures: Figures, period: Period) -> dict[str, Any]:
    """Wide and narrow drawings of the period; nothing when it was empty."""
    if figures.is_empty:
        return {}
    stretches = figures.stretches
    return {
        "stretches": stretches,
        "bars": [charts.ended_tasks(stretches, period, width) for width in CHART_WIDTHS],
        "waits": [charts.queue_wait(stretches, period, width) for width in CHART_WIDTHS],
        "ended": figures.ended,
        "failed": figures.failed,
    }


def _sentence(running: int, unreachable: int, waiting: int, runners: list[fleet.RunnerRow]) -> str:
    now = f"{number(running)} {'task runs' if running == 1 else 'tasks run'} now"
    if not running:
        now = "No task runs now"
    if unreachable:
        now += f", {standstill.out_of_reach(unreachable)}"
    line = f"{waiting:,} {'waits' if waiting == 1 else 'wait'}"
    sentence = f"{now}, {line}." if waiting else f"{now}, none waits."
    if runners and not any(row.is_online for row in runners):
        return f"{sentence} {standstill.of_a_project([row.status for row in runners])}"
    return sentence


def _in_words(figures: Figures) -> dict[str, str]:
    """What the period comes down to; a dash for what nothing is known of."""
    judged = figures.succeeded + figures.failed
    waits, lengths = figures.waits, figures.lengths
    return {
        "rate": f"{100 * figures.succeeded / judged:.{_places(figures)}f} %" if judged else "–",
        "bad": f"{figures.failed:,} of {counted(judged, 'task')} failed" if judged else "",
        "wait": duration_in_words(waits.median) if waits else "–",
        "slow_wait": f"95th percentile {duration_in_words(waits.slow)}" if waits else "",
        "length": duration_in_words(lengths.median) if lengths else "–",
        "slow": f"95th percentile {duration_in_words(lengths.slow)}" if lengths else "",
    }


def _places(figures: Figures) -> int:
    """Tenths of a percent only where there are tasks enough to tell them apart."""
    return 1 if figures.failed and figures.ended >= 500 else 0
