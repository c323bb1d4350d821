"""The last day of a project as two charts, and the last hour of its runners as sparklines.

Drawn here as coordinates, so that the page needs no script for them. They cost a few thousand
rows, so they are computed at most every CACHE_SECONDS however many people watch.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from statistics import median, quantiles
from typing import TYPE_CHECKING

from django.core.cache import cache

from forge.pages.words import duration_in_words
from tasks.lifecycle import TERMINAL, TaskState
from tasks.models import Task

if TYPE_CHECKING:
    from projects.models import Project
    from runners.models import Runner
    from tasks.querysets import TaskQuerySet

CACHE_SECONDS = 20
HOURS = 24
SAMPLE_ROWS = 5000
SAMPLES = 48
# How long before a chart's begin a task may have been queued and still be drawn.
MAXIMUM_AGE = timedelta(days=1)
HEIGHT = 190
TOP, BASE, LEFT = 22.0, 160.0, 44.0
SPARK_WIDTH, SPARK_HEIGHT, SPARK_TOP = 96.0, 24.0, 3.0
_FAILURES = (TaskState.FAILED, TaskState.LOST)


@dataclass
class Hour:
    begin: datetime
    finished: int = 0
    failed: int = 0
    waits: list[float] = field(default_factory=list)

    @property
    def total(self) -> int:
        return self.finished + self.failed

    @property
    def median_wait(self) -> float | None:
        return median(self.waits) if self.waits else None

    @property
    def slow_wait(self) -> float | None:
        """The 95th percentile."""
        if len(self.waits) < 2:
            return self.median_wait
        return quantiles(self.waits, n=20, method="inclusive")[-1]


def last_day(project: Project, *, now: datetime) -> list[Hour]:
    """The last 24 hours, the current one last; from the latest SAMPLE_ROWS tasks."""
    key = f"forge:pages:day:{project.pk}"
    return cache.get_or_set(key, lambda: _last_day(project, now), CACHE_SECONDS) or []


def _last_day(project: Project, now: datetime) -> list[Hour]:
    this = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    hours = [Hour(this - timedelta(hours=back)) for back in range(HOURS - 1, -1, -1)]
    by_begin = {hour.begin: hour for hour in hours}
    rows = _of_late(project, hours[0].begin)
    fields = ("state", "created_at", "claimed_at", "finished_at")
    for state, created, claimed, finished in rows.values_list(*fields)[:SAMPLE_ROWS]:
        _count_end(by_begin, state, finished)
        _count_wait(by_begin, created, claimed)
    return hours


def _of_late(project: Project, since: datetime) -> TaskQuerySet:
    """The tasks that may have done something since then: older ones have been over for days.

    Found by their time, so that what is older is not read at all.
    """
    begin = since - MAXIMUM_AGE
    return Task.objects.filter(project=project, created_at__gte=begin).order_by("-created_at")


def _hour(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _count_end(hours: dict[datetime, Hour], state: str, finished: datetime | None) -> None:
    hour = hours.get(_hour(finished)) if finished and state in TERMINAL else None
    if hour is None:
        return
    if state in _FAILURES:
        hour.failed += 1
    else:
        hour.finished += 1


def _count_wait(hours: dict[datetime, Hour], created: datetime, claimed: datetime | None) -> None:
    hour = hours.get(_hour(claimed)) if claimed else None
    if hour is not None and claimed is not None:
        hour.waits.append((claimed - created).total_seconds())


@dataclass(frozen=True)
class Bar:
    hour: Hour
    x: float
    y: float
    height: float
    failed_y: float
    failed_height: float
    middle: float
    is_now: bool

    @property
    def end(self) -> float:
        return self.y + self.height


@dataclass(frozen=True)
class Chart:
    """`grid` holds (y, label), `ticks` (x, hour)."""

    width: int
    grid: list[tuple[float, str]]
    ticks: list[tuple[float, datetime]]
    bars: list[Bar] = field(default_factory=list)
    bar_width: float = 0.0
    middle_path: str = ""
    slow_path: str = ""
    middle_end: tuple[float, float, str] | None = None
    slow_end: tuple[float, float, str] | None = None

    @property
    def right(self) -> float:
        return self.width - 4.0


def tasks_per_hour(hours: Sequence[Hour], width: int) -> Chart:
    step = _step(max(hour.total for hour in hours))
    top = step * max(math.ceil(max(hour.total for hour in hours) / step), 1)
    pitch = (width - LEFT - 4) / HOURS
    scale = (BASE - TOP) / top
    bars = [_bar(hour, n, pitch, scale) for n, hour in enumerate(hours)]
    grid = [(BASE - value * scale, f"{value:,}") for value in range(0, top + 1, step)]
    return Chart(width, grid, _ticks(hours, pitch), bars, bar_width=round(pitch * 0.8, 1))


def _bar(hour: Hour, place: int, pitch: float, scale: float) -> Bar:
    failed = max(hour.failed * scale, 2.0) if hour.failed else 0.0
    finished = max(hour.total * scale - failed - (1 if failed else 0), 0.0)
    x = LEFT + place * pitch + pitch * 0.1
    return Bar(
        hour=hour,
        x=round(x, 1),
        y=round(BASE - failed - (1 if failed else 0) - finished, 1),
        height=round(finished, 1),
        failed_y=round(BASE - failed, 1),
        failed_height=round(failed, 1),
        middle=round(x + pitch * 0.4, 1),
        is_now=place == HOURS - 1,
    )


def _step(highest: int) -> int:
    """A round distance of grid lines, of which there are at most four."""
    for magnitude in (1, 10, 100, 1000, 10_000):
        for factor in (1, 2, 5):
            if highest <= 4 * factor * magnitude:
                return factor * magnitude
    return 100_000


def _ticks(hours: Sequence[Hour], pitch: float) -> list[tuple[float, datetime]]:
    every = 3 if pitch > 15 else 6
    found = enumerate(hours)
    return [(round(LEFT + (n + 0.5) * pitch, 1), hour.begin) for n, hour in found if n % every == 0]


def queue_wait(hours: Sequence[Hour], width: int) -> Chart:
    """Median and 95th percentile on a logarithmic scale; a gap where nothing was claimed."""
    middle = [hour.median_wait for hour in hours]
    slow = [hour.slow_wait for hour in hours]
    highest = max([value for value in slow if value is not None], default=1.0)
    low, high = -2, max(math.ceil(math.log10(max(highest, 0.1))), 0)
    right = width - (78 if width > 400 else 64)
    pitch = (right - LEFT - 10) / (HOURS - 1)

    def point(place: int, value: float) -> tuple[float, float]:
        share = (math.log10(max(value, 0.01)) - low) / (high - low)
        return round(LEFT + 10 + place * pitch, 1), round(BASE - share * (BASE - TOP), 1)

    grid = [(point(0, 10.0**n)[1], duration_in_words(10.0**n)) for n in range(low, high + 1)]
    points = [[point(n, v) if v is not None else None for n, v in enumerate(line)]
              for line in (middle, slow)]  # fmt: skip
    every = 3 if pitch > 15 else 6
    ticks = [(point(n, 1)[0], hour.begin) for n, hour in enumerate(hours) if n % every == 0]
    ends = [_end(*pair) for pair in zip(points, (middle, slow), ("p50", "p95"), strict=True)]
    return Chart(
        width, grid, ticks, middle_path=_path(points[0]), slow_path=_path(points[1]),
        middle_end=ends[0], slow_end=_apart(ends[1], ends[0]),
    )  # fmt: skip


_Points = Sequence[tuple[float, float] | None]


def _path(points: _Points) -> str:
    """Lines between neighbours; a point without neighbours is a dash of its own."""
    parts: list[str] = []
    for before, at in pairwise([None, *points]):
        if at is not None:
            start = f"L{at[0]} {at[1]}" if before else f"M{at[0]} {at[1]}h1"
            parts.append(start)
    return "".join(parts)


def _end(
    points: _Points, values: Sequence[float | None], name: str
) -> tuple[float, float, str] | None:
    """Where the line ends, and what to write there."""
    known = [
        (at, value) for at, value in zip(points, values, strict=True) if at and value is not None
    ]
    if not known:
        return None
    (x, y), value = known[-1]
    return x + 7, y + 4, f"{name} {duration_in_words(value)}"


_End = tuple[float, float, str] | None


def _apart(upper: _End, lower: _End) -> _End:
    """Two labels at one height would be written over each other."""
    if upper and lower and abs(upper[1] - lower[1]) < 13:
        return upper[0], lower[1] - 13, upper[2]
    return upper


def last_hour(project: Project, *, now: datetime) -> dict[int, list[int]]:
    """For each runner, how many tasks it held at SAMPLES moments of the last hour."""
    key = f"forge:pages:hour:{project.pk}"
    return cache.get_or_set(key, lambda: _last_hour(project, now), CACHE_SECONDS) or {}


def _last_hour(project: Project, now: datetime) -> dict[int, list[int]]:
    begin = now - timedelta(hours=1)
    step = timedelta(hours=1) / (SAMPLES - 1)
    held: dict[int, list[int]] = defaultdict(lambda: [0] * SAMPLES)
    rows = _of_late(project, begin).exclude(claimed_at=None)
    fields = ("runner_id", "claimed_at", "finished_at")
    for runner_id, claimed, finished in rows.values_list(*fields)[:SAMPLE_ROWS]:
        end = finished or now
        if runner_id is None or claimed is None or end < begin:
            continue
        first = max(math.ceil((claimed - begin) / step), 0)
        for place in range(first, min(math.floor((end - begin) / step), SAMPLES - 1) + 1):
            held[runner_id][place] += 1
    return dict(held)


@dataclass(frozen=True)
class Sparkline:
    line: str
    area: str
    words: str


def sparkline(runner: Runner, samples: Sequence[int] | None) -> Sparkline | None:
    """Stepped, up to the runner's slots; None for a runner that was never heard."""
    if runner.last_heartbeat_at is None:
        return None
    values = samples or [0] * SAMPLES
    highest = max(runner.concurrency, *values)
    pitch = SPARK_WIDTH / (len(values) - 1)
    heights = [SPARK_HEIGHT - (SPARK_HEIGHT - SPARK_TOP) * value / highest for value in values]
    line = f"M0 {heights[0]:.1f}"
    for place, (before, height) in enumerate(pairwise(heights), start=1):
        line += f"H{place * pitch:.1f}" + (f"V{height:.1f}" if height != before else "")
    area = f"{line}V{SPARK_HEIGHT:.0f}H0Z"
    return Sparkline(line, area, f"At most {max(values)} at once in the last hour")
