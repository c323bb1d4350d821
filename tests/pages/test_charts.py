"""The charts count what happened, and nothing twice."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.cache import cache
from django.utils import timezone

from forge.pages import charts
from runners.models import Runner
from tasks.models import Task, TaskTemplate
from tests.cast import Cast


@pytest.fixture(autouse=True)
def _empty_cache() -> None:
    cache.clear()


def ended(
    cast: Cast, template: TaskTemplate, runner: Runner, *, ago: float, took: float, state: str
) -> Task:
    begin = timezone.now() - timedelta(seconds=ago)
    return Task.objects.create(
        project=cast.project,
        template=template,
        queue=template.queue,
        app="bash",
        script="true",
        timeout_seconds=60,
        is_exclusive=False,
        state=state,
        reason="It ended.",
        runner=runner,
        nonce="n",
        created_at=begin - timedelta(seconds=2),
        claimed_at=begin,
        started_at=begin,
        finished_at=begin + timedelta(seconds=took),
    )


def test_each_hour_counts_its_own_ends(cast: Cast, template: TaskTemplate, runner: Runner) -> None:
    ended(cast, template, runner, ago=1, took=0, state="succeeded")
    ended(cast, template, runner, ago=1, took=0, state="lost")
    ended(cast, template, runner, ago=3 * 3600, took=0, state="failed")
    ended(cast, template, runner, ago=30 * 3600, took=0, state="failed")
    hours = charts.last_day(cast.project, now=timezone.now())
    assert len(hours) == 24
    assert sum(hour.finished for hour in hours) == 1
    assert sum(hour.failed for hour in hours) == 2
    assert hours[-4].failed == 1
    assert hours[-4].median_wait == pytest.approx(2.0)


def test_bars_stand_on_the_base_and_stay_inside(
    cast: Cast, template: TaskTemplate, runner: Runner
) -> None:
    for _ in range(7):
        ended(cast, template, runner, ago=7200, took=0, state="succeeded")
    ended(cast, template, runner, ago=7200, took=0, state="failed")
    hours = charts.last_day(cast.project, now=timezone.now())
    for width in (560, 326):
        chart = charts.tasks_per_hour(hours, width)
        for bar in chart.bars:
            assert charts.TOP - 1 <= bar.y <= charts.BASE
            assert bar.failed_y + bar.failed_height == pytest.approx(charts.BASE, abs=0.2)
            assert bar.x + chart.bar_width <= width
        assert charts.queue_wait(hours, width).middle_path.startswith("M")


def test_an_empty_day_can_be_drawn() -> None:
    begin = timezone.now().replace(minute=0, second=0, microsecond=0)
    hours = [charts.Hour(begin) for _ in range(24)]
    assert charts.queue_wait(hours, 560).middle_path == ""
    assert charts.tasks_per_hour(hours, 560).grid[0][1] == "0"


def test_the_load_of_the_last_hour_counts_tasks_held_at_once(
    cast: Cast, template: TaskTemplate, runner: Runner
) -> None:
    ended(cast, template, runner, ago=7200, took=5400, state="succeeded")
    ended(cast, template, runner, ago=3000, took=1800, state="succeeded")
    load = charts.last_hour(cast.project, now=timezone.now())[runner.pk]
    assert len(load) == charts.SAMPLES
    assert load[0] == 1
    assert max(load) == 2
    assert load[-1] == 0


def test_a_runner_that_was_never_heard_has_no_line(runner: Runner) -> None:
    assert charts.sparkline(runner, None) is None
    runner.last_heartbeat_at = timezone.now()
    drawn = charts.sparkline(runner, [0, 2, 1])
    assert drawn is not None
    assert drawn.line == "M0 24.0H48.0V3.0H96.0V13.5"


def test_the_overview_shows_the_charts_with_a_table_behind(
    cast: Cast, template: TaskTemplate, runner: Runner, browser: object
) -> None:
    ended(cast, template, runner, ago=1, took=0, state="failed")
    text = browser(cast.viewer).get(f"/projects/{cast.project.pk}/").content.decode()  # type: ignore[operator]
    assert "last 24 hours: 1 ended, 1 of them failed" in text
    assert '<svg class="chart c-wide"' in text
