"""The figures of the last day, week and month, held against tasks that were put there by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.utils import timezone

from forge.pages import periods
from forge.pages.periods import DAY, PERIODS, Capacity, Spread, figures_of, uses_of
from forge.pages.runner_health import health_of
from runners.models import Runner
from tasks.models import Task, TaskTemplate
from tests.cast import Cast

# Late in an hour and in a day, so that what is a minute ago is in the last stretch of each.
NOW = datetime(2026, 3, 4, 23, 59, 30, tzinfo=UTC)
HOUR, DAY_SECONDS = 3600, 86_400

pytestmark = pytest.mark.django_db


def ended(template: TaskTemplate, runner: Runner, *, ago: float, **more: Any) -> Task:
    """A task that ended `ago` seconds before NOW, ran for `took` and waited for `waited`."""
    end = NOW - timedelta(seconds=ago)
    begin = end - timedelta(seconds=more.pop("took", 0))
    queued = begin - timedelta(seconds=more.pop("waited", 2))
    return Task.objects.create(
        project=template.project, template=template, queue=template.queue, app="bash",
        script="true", timeout_seconds=60, is_exclusive=False, reason="It ended.",
        runner=runner, nonce="n", queued_at=queued,
        claimed_at=begin, started_at=begin, finished_at=end,
        **{"state": "succeeded", "created_at": queued, **more},
    )  # fmt: skip


def test_what_an_earlier_attempt_ran_is_no_wait(template: TaskTemplate, runner: Runner) -> None:
    long_ago = NOW - timedelta(hours=2)
    policy = {"lost_runner_policy": "retry", "max_attempts": 2, "attempt": 2}
    ended(template, runner, ago=1, waited=3, created_at=long_ago, **policy)
    assert figures_of(template.project, DAY, now=NOW).waits == Spread(1, 3.0, 3.0)


def test_each_hour_counts_its_own_ends(template: TaskTemplate, runner: Runner) -> None:
    ended(template, runner, ago=1)
    ended(template, runner, ago=1, state="lost")
    ended(template, runner, ago=3 * HOUR, state="failed")
    ended(template, runner, ago=30 * HOUR, state="failed")
    found = figures_of(template.project, DAY, now=NOW)
    assert len(found.stretches) == 24
    assert (found.ended, found.failed, found.succeeded) == (3, 2, 1)
    assert found.stretches[-4].failed == 1
    assert found.stretches[-4].waits == Spread(1, 2.0, 2.0)


@pytest.mark.parametrize(
    ("key", "ages", "places"),
    [
        ("24h", (60, 23 * HOUR, 24 * HOUR), [-1, -24]),
        ("7d", (60, 7 * HOUR, 6 * DAY_SECONDS, 8 * DAY_SECONDS), [-1, -2, -25]),
        ("30d", (60, 25 * HOUR, 29 * DAY_SECONDS, 31 * DAY_SECONDS), [-1, -2, -30]),
    ],
)
def test_what_ended_is_in_its_hour_or_day_and_what_is_older_in_none(
    key: str, ages: tuple[int, ...], places: list[int], template: TaskTemplate, runner: Runner
) -> None:
    for age in ages:
        ended(template, runner, ago=age)
    stretches = figures_of(template.project, PERIODS[key], now=NOW).stretches
    assert [n - len(stretches) for n, one in enumerate(stretches) if one.total] == sorted(places)


def test_a_day_begins_at_midnight_where_the_server_is(
    template: TaskTemplate, runner: Runner
) -> None:
    # 05:29 there: today has that long, and what ended six hours ago ended yesterday.
    ended(template, runner, ago=HOUR)
    ended(template, runner, ago=6 * HOUR)
    with timezone.override("Asia/Kolkata"):
        stretches = figures_of(template.project, PERIODS["30d"], now=NOW).stretches
    assert [one.total for one in stretches[-2:]] == [1, 1]
    assert (stretches[-1].begin.hour, stretches[-1].begin.minute) == (0, 0)


@pytest.mark.parametrize("state", ["failed", "lost"])
def test_what_was_lost_after_days_counts_when_it_was(
    state: str, template: TaskTemplate, runner: Runner
) -> None:
    """Its runner was waited for, as its template says."""
    ended(template, runner, ago=HOUR)
    ended(template, runner, ago=3 * HOUR, took=3 * DAY_SECONDS, state=state)
    found = figures_of(template.project, DAY, now=NOW)
    assert (found.ended, found.failed, found.succeeded) == (2, 1, 1)
    assert found.stretches[-4].failed == 1
    assert health_of(runner, now=NOW).failed == 1


@pytest.mark.parametrize(
    "change", [datetime(2026, 10, 25, 1, tzinfo=UTC), datetime(2027, 3, 28, 1, tzinfo=UTC)]
)
def test_where_clocks_are_changed_each_hour_is_one_and_has_its_own(
    change: datetime, template: TaskTemplate, runner: Runner
) -> None:
    """At that moment, in Berlin: 02:00 comes a second time, or never."""
    now = change + timedelta(hours=1, minutes=30)
    for number in range(4):
        end = change + timedelta(minutes=60 * number - 90)
        row = ended(template, runner, ago=0)
        Task.objects.filter(pk=row.pk).update(created_at=end, claimed_at=end, finished_at=end)
    with timezone.override("Europe/Berlin"):
        stretches = figures_of(template.project, DAY, now=now).stretches
    begins = [one.begin.astimezone(UTC) for one in stretches]
    assert begins[-1] == now.replace(minute=0) and len(begins) == 24
    assert {later - before for before, later in pairwise(begins)} == {timedelta(hours=1)}
    assert [one.total for one in stretches[-4:]] == [1, 1, 1, 1]


def test_medians_of_many_tasks_come_from_an_even_sample(
    monkeypatch: pytest.MonkeyPatch, template: TaskTemplate, runner: Runner
) -> None:
    monkeypatch.setattr(periods, "SAMPLE_ROWS", 10)
    for number in range(60):
        ended(template, runner, ago=number * 900, waited=5, took=30)
    found = figures_of(template.project, DAY, now=NOW)
    assert found.ended == 60
    assert found.waits and 8 <= found.waits.count <= 12
    # Of the whole period, not of its end.
    assert sum(1 for one in found.stretches if one.waits) >= 6


def test_a_slot_counts_as_used_from_the_claim_to_the_end_within_the_period(
    template: TaskTemplate, runner: Runner
) -> None:
    begin = DAY.begins(NOW)[0]
    length = (NOW - begin).total_seconds()
    ended(template, runner, ago=length - HOUR, took=3 * HOUR)  # one hour of it in the period
    ended(template, runner, ago=2 * HOUR, took=HOUR)
    still = ended(template, runner, ago=0, took=5 * DAY_SECONDS)  # began long before, runs on
    Task.objects.filter(pk=still.pk).update(state="running", finished_at=None, lease_expires_at=NOW)
    held = figures_of(template.project, DAY, now=NOW).held
    assert held == {runner.pk: pytest.approx(2 * HOUR + length, abs=1)}


def test_how_busy_runners_were_is_the_share_of_what_they_offered() -> None:
    begin = NOW - timedelta(hours=10)
    offers = [
        Capacity(1, "idle", 4, begin - timedelta(days=9), is_in_service=True),
        Capacity(2, "busy", 2, begin - timedelta(days=9), is_in_service=False),
        Capacity(3, "new", 1, NOW - timedelta(hours=1), is_in_service=True),
    ]
    uses, together = uses_of(offers, {2: 10 * HOUR, 3: HOUR / 4}, begin=begin, now=NOW)
    assert [(use.name, use.percent, use.is_in_service) for use in uses] == [
        ("busy", 50, False), ("new", 25, True), ("idle", 0, True),
    ]  # fmt: skip
    assert together == pytest.approx(10.25 / 61)


def test_the_overview_shows_the_period_that_its_address_names(
    cast: Cast, template: TaskTemplate, runner: Runner, browser: Any
) -> None:
    now = timezone.now()
    row = ended(template, runner, ago=0)
    moment = now - timedelta(days=3)
    Task.objects.filter(pk=row.pk).update(
        created_at=moment, claimed_at=moment, started_at=moment, finished_at=moment
    )
    Runner.objects.filter(pk=runner.pk).update(last_heartbeat_at=now)

    def page(query: str) -> str:
        answer = browser(cast.viewer).get(f"/projects/{cast.project.pk}/{query}")
        text: str = answer.content.decode()
        return text

    assert "no task has ended, last 24 hours" in page("")
    assert "no task has ended, last 24 hours" in page("?period=a%00century")
    week = page("?period=7d")
    assert "Tasks per 6 hours, last 7 days: 1 ended, 0 of them failed" in week
    # Those of the chart are the server's, whoever reads it.
    assert '<p class="muted small">Times in UTC</p>' in week
    assert "?part=live&amp;period=7d" in week
    assert "0 of 1 task failed, last 30 days" in page("?part=live&period=30d")
    assert "Runner utilisation" in week and runner.name in week
