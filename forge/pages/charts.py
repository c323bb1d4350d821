"""A period of a project as two charts, and the last hour of its runners as sparklines.

Drawn here as coordinates, so that the page needs no script for them. Sparklines cost a few thousand
rows, so they are computed at most every CACHE_SECONDS however many people watch.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from django.core.cache import cache

from forge.pages.periods import SAMPLE_ROWS, Period, Stretch, of_late, queued_before
from projects.words import about, duration_in_words

if TYPE_CHECKING:
    from projects.models import Project
    from runners.models import Runner

CACHE_SECONDS = 20
SAMPLES = 48
HEIGHT = 190
# Half of the widest time that is written below a chart.
LABEL = 18.0
# A point without neighbours is so wide that it is seen.
DASH = 5
# Up to this width a chart has less room for words.
NARROW = 400
TOP, BASE, LEFT = 22.0, 160.0, 44.0
SPARK_WIDTH, SPARK_HEIGHT, SPARK_TOP = 96.0, 24.0, 3.0


@dataclass(frozen=True)
class Bar:
    stretch: Stretch
    x: float
    y: float
    height: float
    failed_y: float
    failed_height: float
    middle: float
    is_now: bool = False

    @property
    def end(self) -> float:
        return self.y + self.height


@dataclass(frozen=True)
class Chart:
    """`grid` holds (y, label), `ticks` (x, begin of a stretch); `now`: where that word ends."""

    width: int
    grid: list[tuple[float, str]]
    ticks: list[tuple[float, datetime]]
    bars: list[Bar] = field(default_factory=list)
    bar_width: float = 0.0
    now: float | None = None
    middle_path: str = ""
    slow_path: str = ""
    middle_end: tuple[float, float, str] | None = None
    slow_end: tuple[float, float, str] | None = None

    @property
    def right(self) -> float:
        return self.width - 4.0


def ended_tasks(stretches: Sequence[Stretch], period: Period, width: int) -> Chart:
    highest = max(one.total for one in stretches)
    step = _step(highest)
    top = step * max(math.ceil(highest / step), 1)
    pitch = (width - LEFT - 4) / len(stretches)
    scale = (BASE - TOP) / top
    bars = [_bar(one, n, pitch, scale) for n, one in enumerate(stretches)]
    bars[-1] = replace(bars[-1], is_now=True)
    grid = [(BASE - value * scale, f"{value:,}") for value in range(0, top + 1, step)]
    middles = [LEFT + (n + 0.5) * pitch for n in range(len(stretches))]
    now = width - 2.0  # below the last bar, and whole
    # Two words at one place could not be read.
    ticks = [
        tick for tick in _ticks(stretches, period, width, middles) if tick[0] < now - 3 * LABEL
    ]
    return Chart(width, grid, ticks, bars, bar_width=round(pitch * 0.8, 1), now=now)


def _bar(stretch: Stretch, place: int, pitch: float, scale: float) -> Bar:
    failed = max(stretch.failed * scale, 2.0) if stretch.failed else 0.0
    gap = 1 if failed else 0
    finished = max(stretch.total * scale - failed - gap, 0.0)
    x = LEFT + place * pitch + pitch * 0.1
    return Bar(
        stretch=stretch,
        x=round(x, 1),
        y=round(BASE - failed - gap - finished, 1),
        height=round(finished, 1),
        failed_y=round(BASE - failed, 1),
        failed_height=round(failed, 1),
        middle=round(x + pitch * 0.4, 1),
    )


def _step(highest: int) -> int:
    """A round distance of grid lines, of which there are at most four."""
    for magnitude in (1, 10, 100, 1000, 10_000):
        for factor in (1, 2, 5):
            if highest <= 4 * factor * magnitude:
                return factor * magnitude
    return 100_000


def _ticks(
    stretches: Sequence[Stretch], period: Period, width: int, middles: Sequence[float]
) -> list[tuple[float, datetime]]:
    """Where the time is written: of days, below their first stretch."""
    every = period.ticks[0] if width > NARROW else period.ticks[1]
    first = 0
    if period.is_daily:
        first = next((n for n, one in enumerate(stretches) if one.begin.hour == 0), 0)
    # What begins too near the edge could not be read.
    chosen = (n for n in range(first, len(stretches), every) if middles[n] < width - LABEL)
    return [(round(middles[n], 1), stretches[n].begin) for n in chosen]


def queue_wait(stretches: Sequence[Stretch], period: Period, width: int) -> Chart:
    """Median and 95th percentile on a logarithmic scale; a gap where nothing was claimed."""
    middle = [one.waits.median if one.waits else None for one in stretches]
    slow = [one.waits.slow if one.waits else None for one in stretches]
    highest = max([value for value in slow if value is not None], default=1.0)
    low, high = -2, max(math.ceil(math.log10(max(highest, 0.1))), 0)
    right = width - 78
    pitch = (right - LEFT - 10) / (len(stretches) - 1)

    def point(place: int, value: float) -> tuple[float, float]:
        share = (math.log10(max(value, 0.01)) - low) / (high - low)
        return round(LEFT + 10 + place * pitch, 1), round(BASE - share * (BASE - TOP), 1)

    grid = [(point(0, 10.0**n)[1], _round_duration(10.0**n)) for n in range(low, high + 1)]
    points = [[point(n, v) if v is not None else None for n, v in enumerate(line)]
              for line in (middle, slow)]  # fmt: skip
    ticks = _ticks(stretches, period, width, [point(n, 1)[0] for n in range(len(stretches))])
    ends = [_end(*pair) for pair in zip(points, (middle, slow), ("p50", "p95"), strict=True)]
    return Chart(
        width, grid, ticks, middle_path=_path(points[0]), slow_path=_path(points[1]),
        middle_end=ends[0], slow_end=_apart(ends[1], ends[0]),
    )  # fmt: skip


def _round_duration(seconds: float) -> str:
    """Of a power of ten, short enough for an axis: `100 ms`, `100 s`, `17 min`, `28 h`."""
    if seconds < 1000:
        return duration_in_words(seconds) if seconds < 60 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.0f} h"


_Points = Sequence[tuple[float, float] | None]


def _path(points: _Points) -> str:
    """Lines between neighbours; a point without neighbours is a dash of its own."""
    parts: list[str] = []
    for before, (at, after) in zip([None, *points], pairwise([*points, None]), strict=False):
        if at is not None and (before or after):
            parts.append(f"{'L' if before else 'M'}{at[0]} {at[1]}")
        elif at is not None:
            parts.append(f"M{at[0] - DASH / 2} {at[1]}h{DASH}")
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
    said = duration_in_words(value) if value < 60 else about(value)
    return x + 7, y + 4, f"{name} {said}"


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
    late = of_late(project, begin).exclude(claimed_at=None)
    long = queued_before(project, begin).held().exclude(claimed_at=None)
    fields = ("runner_id", "claimed_at", "finished_at")
    found = [row for rows in (late, long) for row in rows.values_list(*fields)[:SAMPLE_ROWS]]
    for runner_id, claimed, finished in found:
        if runner_id is None or claimed is None or (finished or now) < begin:
            continue
        first = max(math.ceil((claimed - begin) / step), 0)
        # What runs is held at the last of them too, which is now.
        last = math.floor((finished - begin) / step) if finished else SAMPLES
        for place in range(first, min(last + 1, SAMPLES)):
            held[runner_id][place] += 1
    return dict(held)


@dataclass(frozen=True)
class Sparkline:
    line: str
    area: str
    words: str


def sparkline(runner: Runner, samples: Sequence[int] | None, *, now: datetime) -> Sparkline | None:
    """Stepped, up to the runner's slots, and only as long as the runner was heard.

    None for one that never was.
    """
    heard = runner.last_heartbeat_at
    if heard is None:
        return None
    values = samples or [0] * SAMPLES
    highest = max(runner.slots, *values)
    pitch = SPARK_WIDTH / (len(values) - 1)
    if runner.is_silent(now=now):
        known = 1 - (now - heard) / timedelta(hours=1)
        values = values[: max(math.floor(known * (len(values) - 1)) + 1, 0)]
    if not values:
        return Sparkline("", "", "Not heard in the last hour")
    heights = [SPARK_HEIGHT - (SPARK_HEIGHT - SPARK_TOP) * value / highest for value in values]
    line = f"M0 {heights[0]:.1f}"
    for place, (before, height) in enumerate(pairwise(heights), start=1):
        line += f"H{place * pitch:.1f}" + (f"V{height:.1f}" if height != before else "")
    area = f"{line}V{SPARK_HEIGHT:.0f}H0Z"
    return Sparkline(line, area, f"At most {max(values)} at once in the last hour")
