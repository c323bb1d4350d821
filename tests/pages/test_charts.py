"""The charts count what happened, and nothing twice."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from forge.pages import charts
from forge.pages.periods import DAY, PERIODS, Period, Spread, Stretch, figures_of
from runners.models import Runner
from tasks.models import Task, TaskTemplate
from tests.cast import Cast


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
        queued_at=begin - timedelta(seconds=2),
        claimed_at=begin,
        started_at=begin,
        finished_at=begin + timedelta(seconds=took),
    )


@pytest.mark.parametrize("key", PERIODS)
def test_bars_stand_on_the_base_and_stay_inside(
    key: str, cast: Cast, template: TaskTemplate, runner: Runner
) -> None:
    for _ in range(7):
        ended(cast, template, runner, ago=7200, took=0, state="succeeded")
    ended(cast, template, runner, ago=7200, took=0, state="failed")
    period = PERIODS[key]
    stretches = figures_of(cast.project, period, now=timezone.now()).stretches
    for width in (560, 326):
        chart = charts.ended_tasks(stretches, period, width)
        for bar in chart.bars:
            assert charts.TOP - 1 <= bar.y <= charts.BASE
            assert bar.failed_y + bar.failed_height == pytest.approx(charts.BASE, abs=0.2)
            assert bar.x + chart.bar_width <= width
        waits = charts.queue_wait(stretches, period, width)
        assert waits.middle_path.startswith("M")
        for drawn in (chart, waits):
            assert len(drawn.ticks) >= 3 and all(0 < x < width for x, _ in drawn.ticks)


def test_a_point_without_neighbours_is_seen_and_the_present_hour_is_named(
    cast: Cast, template: TaskTemplate, runner: Runner, client: Client
) -> None:
    stretches = [Stretch(begin) for begin in DAY.begins(timezone.now())]
    stretches[3].waits = Spread.of([1.0])
    for n in (7, 8):
        stretches[n].waits = Spread.of([1.0])
    path = charts.queue_wait(stretches, DAY, 560).middle_path
    assert re.fullmatch(r"M[\d.]+ [\d.]+h5M[\d.]+ [\d.]+L[\d.]+ [\d.]+", path), path
    for width in (560, 326):
        chart = charts.ended_tasks(stretches, DAY, width)
        assert chart.now and chart.bars[-1].middle < chart.now < width
        assert all(x < chart.now - 48 for x, _ in chart.ticks)
    ended(cast, template, runner, ago=7200, took=0, state="succeeded")
    client.force_login(cast.viewer)
    assert ">now</text>" in client.get(f"/projects/{cast.project.pk}/").text


@pytest.mark.parametrize("period", PERIODS.values(), ids=PERIODS)
def test_an_empty_period_can_be_drawn(period: Period) -> None:
    stretches = [Stretch(begin) for begin in period.begins(timezone.now())]
    assert charts.queue_wait(stretches, period, 560).middle_path == ""
    assert charts.ended_tasks(stretches, period, 560).grid[0][1] == "0"


def test_the_labels_of_an_axis_are_short_enough_to_be_read() -> None:
    stretches = [Stretch(begin) for begin in DAY.begins(timezone.now())]
    stretches[3].waits = Spread.of([90_000.0])
    labels = [label for _, label in charts.queue_wait(stretches, DAY, 560).grid]
    assert labels == ["10 ms", "100 ms", "1 s", "10 s", "100 s", "17 min", "3 h", "28 h"]


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


def test_what_has_run_for_days_is_in_the_load_of_the_last_hour(
    cast: Cast, template: TaskTemplate, runner: Runner
) -> None:
    days = 3 * 24 * 3600
    row = ended(cast, template, runner, ago=days, took=days, state="succeeded")
    running = {"state": "running", "finished_at": None, "lease_expires_at": timezone.now()}
    Task.objects.filter(pk=row.pk).update(**running)
    load = charts.last_hour(cast.project, now=timezone.now())[runner.pk]
    assert load == [1] * charts.SAMPLES


def test_a_runner_that_was_never_heard_has_no_line(runner: Runner) -> None:
    now = timezone.now()
    assert charts.sparkline(runner, None, now=now) is None
    runner.last_heartbeat_at, runner.session = now, "one"
    drawn = charts.sparkline(runner, [0, 2, 1], now=now)
    assert drawn is not None
    assert drawn.line == "M0 24.0H48.0V3.0H96.0V13.5"


def test_a_line_ends_where_the_runner_was_heard_last(runner: Runner) -> None:
    now = timezone.now()
    runner.last_heartbeat_at, runner.session = now - timedelta(minutes=29), "one"
    drawn = charts.sparkline(runner, [0, 2, 1], now=now)
    assert drawn is not None
    assert drawn.line == "M0 24.0H48.0V3.0"
    runner.last_heartbeat_at = now - timedelta(hours=3)
    silent = charts.sparkline(runner, [0, 0, 0], now=now)
    assert silent is not None
    assert (silent.line, silent.words) == ("", "Not heard in the last hour")


def test_the_overview_shows_the_charts_with_a_table_behind(
    cast: Cast, template: TaskTemplate, runner: Runner, browser: object
) -> None:
    ended(cast, template, runner, ago=1, took=0, state="failed")
    text = browser(cast.viewer).get(f"/projects/{cast.project.pk}/").content.decode()  # type: ignore[operator]
    assert "last 24 hours: 1 ended, 1 of them failed" in text
    assert '<svg class="chart c-wide"' in text
