"""What a project did in a period: tasks by hour or day, how long they waited and ran, who was busy.

Counts are the database's, of all tasks that were queued no longer than MAXIMUM_AGE before the
period, and of all that failed or were lost in it, whenever they were queued. Medians and
percentiles come from at most about SAMPLE_ROWS tasks, evenly taken. All is computed at most every
`Period.cache_seconds`, however many people watch.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from datetime import timezone as tzinfo_of
from functools import cached_property
from itertools import chain
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

from django.core.cache import cache
from django.db.models import Count, DurationField, ExpressionWrapper, F, Q, Sum, Value
from django.db.models.functions import Coalesce, Greatest, TruncHour
from django.utils import timezone

from tasks.lifecycle import TaskState
from tasks.models import Task

if TYPE_CHECKING:
    from projects.models import Project
    from tasks.querysets import TaskQuerySet

SAMPLE_ROWS = 5000
# How long before a period's begin a task may have been queued and still be counted.
MAXIMUM_AGE = timedelta(days=1)
FAILURES = (TaskState.FAILED, TaskState.LOST)


@dataclass(frozen=True)
class Period:
    """`count` stretches of `hours` each, the current one last.

    ticks: of every how many stretches a wide and a narrow chart write the time.
    """

    key: str
    label: str
    words: str
    hours: int
    count: int
    ticks: tuple[int, int]
    cache_seconds: int

    @property
    def is_daily(self) -> bool:
        """Whether its stretches are told apart by their day."""
        return self.hours * self.count > 24

    @property
    def title(self) -> str:
        return {1: "Tasks per hour", 24: "Tasks per day"}.get(
            self.hours, f"Tasks per {self.hours} hours"
        )

    def begins(self, now: datetime) -> list[datetime]:
        """Of each stretch, in the time zone of the server; days begin at midnight there."""
        local = timezone.localtime(now).replace(minute=0, second=0, microsecond=0)
        last = local.replace(hour=local.hour // self.hours * self.hours)
        if self.hours == 1:
            # Each as long as the others: by the wall clock one comes twice a year, and one never.
            hours = [
                last.astimezone(UTC) - timedelta(hours=n) for n in range(self.count - 1, -1, -1)
            ]
            return [hour.astimezone(local.tzinfo) for hour in hours]
        # Wall clock arithmetic: a day with a change of the clocks is one day too.
        back = range(self.count - 1, -1, -1)
        return [last - timedelta(hours=self.hours * number) for number in back]


PERIODS = {
    period.key: period
    for period in (
        Period("24h", "24 h", "last 24 hours", 1, 24, (3, 6), 20),
        Period("7d", "7 d", "last 7 days", 6, 28, (4, 8), 60),
        Period("30d", "30 d", "last 30 days", 24, 30, (5, 10), 300),
    )
}
DAY = PERIODS["24h"]


def period_named(key: str) -> Period:
    """The period of `?period=`; the last day for what is none."""
    return PERIODS.get(key, DAY)


@dataclass(frozen=True)
class Spread:
    """What `count` values, at least one, come down to: their median and 95th percentile."""

    count: int
    median: float
    slow: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        if not values:
            return None
        many = len(values) > 1
        slow = quantiles(values, n=20, method="inclusive")[-1] if many else values[0]
        return cls(len(values), median(values), slow)


@dataclass
class Stretch:
    """An hour or a day of a period. Waits are in seconds."""

    begin: datetime
    finished: int = 0
    failed: int = 0
    waits: Spread | None = None

    @property
    def total(self) -> int:
        return self.finished + self.failed


@dataclass
class Figures:
    """Waits and lengths, of tasks, are in seconds.

    `held` has the seconds for which each runner's slots were taken, by the runner's id.
    """

    stretches: list[Stretch]
    succeeded: int = 0
    waits: Spread | None = None
    lengths: Spread | None = None
    held: dict[int, float] = field(default_factory=dict)

    @property
    def begin(self) -> datetime:
        return self.stretches[0].begin

    @cached_property
    def begins(self) -> list[datetime]:
        """Looked through once for each task."""
        return [stretch.begin for stretch in self.stretches]

    @property
    def ended(self) -> int:
        return sum(one.total for one in self.stretches)

    @property
    def failed(self) -> int:
        return sum(one.failed for one in self.stretches)

    @property
    def is_empty(self) -> bool:
        return not self.ended and not self.waits


def figures_of(project: Project, period: Period, *, now: datetime) -> Figures:
    key = f"forge:pages:figures-2:{project.pk}:{period.key}"
    found: Figures | None = cache.get(key)
    if found is None:
        found = _figures_of(project, period, now)
        cache.set(key, found, period.cache_seconds)
    return found


def _figures_of(project: Project, period: Period, now: datetime) -> Figures:
    found = Figures([Stretch(begin) for begin in period.begins(now)])
    _count_ends(found, project)
    _take_sample(found, project)
    found.held = _held_seconds(project, found.begin, now)
    return found


def of_late(project: Project, since: datetime) -> TaskQuerySet:
    """The tasks that may have done something since then: older ones have been over for days.

    Found by their time, so that what is older is not read at all.
    """
    begin = since - MAXIMUM_AGE
    return Task.objects.filter(project=project, created_at__gte=begin).order_by("-created_at")


def queued_before(project: Project, since: datetime) -> TaskQuerySet:
    """The rest of the project's tasks, which is without end: those of a state only."""
    return Task.objects.filter(project=project, created_at__lt=since - MAXIMUM_AGE)


def ended_since(project: Project, begin: datetime) -> list[TaskQuerySet]:
    """The tasks that have ended since then, in parts that have none in common.

    Of those that were queued long before, only the ones that nobody may overlook: a lost runner is
    waited for as long as its template says, up to a month. They have an index for each state.
    """
    long = queued_before(project, begin).order_by()
    parts = [of_late(project, begin).finished(), *(long.filter(state=one) for one in FAILURES)]
    return [part.filter(finished_at__gte=begin).order_by() for part in parts]


def _stretch_at(found: Figures, moment: datetime | None) -> Stretch | None:
    place = bisect_right(found.begins, moment) - 1 if moment else -1
    return found.stretches[place] if place >= 0 else None


def _count_ends(found: Figures, project: Project) -> None:
    """Hour by hour: no part of a stretch is shorter."""
    # By a clock that is never changed: two hours of that of the wall may have one name.
    clock = tzinfo_of(found.begin.utcoffset() or timedelta())
    hour_of = TruncHour("finished_at", tzinfo=clock)
    parts = [rows.annotate(hour=hour_of) for rows in ended_since(project, found.begin)]
    counts = [rows.values_list("hour", "state").annotate(count=Count("pk")) for rows in parts]
    for hour, state, count in chain.from_iterable(counts):
        stretch = _stretch_at(found, hour)
        if stretch is None:
            continue
        if state in FAILURES:
            stretch.failed += count
        else:
            stretch.finished += count
        found.succeeded += count if state == TaskState.SUCCEEDED else 0


def _take_sample(found: Figures, project: Project) -> None:
    rows = of_late(project, found.begin).exclude(claimed_at=None)
    every = max(found.ended // SAMPLE_ROWS, 1)
    if every > 1:
        rows = rows.annotate(turn=F("pk") % every).filter(turn=0)
    fields = ("queued_at", "claimed_at", "started_at", "finished_at")
    waits: dict[datetime, list[float]] = defaultdict(list)
    lengths = []
    # A project without an end in sight queues faster than it ends.
    for queued, claimed, started, finished in rows.values_list(*fields)[: 2 * SAMPLE_ROWS]:
        if stretch := _stretch_at(found, claimed):
            waits[stretch.begin].append((claimed - queued).total_seconds())
        if started and finished and finished >= found.begin:
            lengths.append((finished - started).total_seconds())
    # Ten thousand numbers would have to be read back, and sorted, whenever somebody looks.
    for stretch in found.stretches:
        stretch.waits = Spread.of(waits[stretch.begin])
    found.waits = Spread.of([wait for some in waits.values() for wait in some])
    found.lengths = Spread.of(lengths)


def _held_seconds(project: Project, begin: datetime, now: datetime) -> dict[int, float]:
    """Of each runner, for how long its tasks held a slot since `begin`, added up."""
    late = of_late(project, begin).filter(Q(finished_at=None) | Q(finished_at__gt=begin))
    long = queued_before(project, begin).held()
    found: dict[int, float] = {}
    for rows in (late, long):
        for runner, held in _sums(rows, begin, now):
            found[runner] = found.get(runner, 0.0) + held.total_seconds()
    return found


def _sums(rows: TaskQuerySet, begin: datetime, now: datetime) -> Iterator[tuple[int, timedelta]]:
    end: Any = Coalesce("finished_at", Value(now))
    held = ExpressionWrapper(
        end - Greatest("claimed_at", Value(begin)), output_field=DurationField()
    )
    claimed = rows.exclude(claimed_at=None).exclude(runner=None).order_by()
    yield from claimed.values_list("runner_id").annotate(held=Sum(held))


@dataclass(frozen=True)
class Use:
    """The share, from 0 to 1, of a runner's slots that was in use."""

    name: str
    pk: int
    share: float
    is_in_service: bool

    @property
    def percent(self) -> int:
        return round(100 * self.share)


@dataclass(frozen=True)
class Capacity:
    """What a runner could have done: its slots, since when in the period, and whether it is on."""

    pk: int
    name: str
    slots: int
    since: datetime
    is_in_service: bool


def uses_of(
    runners: Sequence[Capacity], held: Mapping[int, float], *, begin: datetime, now: datetime
) -> tuple[list[Use], float]:
    """How busy each runner was, the busiest first, and how busy all of them were together."""
    uses, all_held, all_slots = list[Use](), 0.0, 0.0
    for one in runners:
        offered = one.slots * max((now - max(one.since, begin)).total_seconds(), 1.0)
        taken = min(held.get(one.pk, 0.0), offered)
        uses.append(Use(one.name, one.pk, taken / offered, one.is_in_service))
        all_held, all_slots = all_held + taken, all_slots + offered
    uses.sort(key=lambda use: (-use.share, use.name))
    return uses, all_held / all_slots if all_slots else 0.0
