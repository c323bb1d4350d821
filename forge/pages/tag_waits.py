"""How long tasks wait for a runner, by what they need: the project's tags, and no tag."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING

from django.core.cache import cache
from django.db.models import Count, Min

from forge.pages import standstill
from projects.words import about, duration_in_words
from runners.models import Queue, Runner
from runners.status import RunnerStatus
from tasks.lifecycle import TaskState
from tasks.models import Task

if TYPE_CHECKING:
    from forge.pages.fleet import RunnerRow
    from projects.models import Project

MAXIMUM_SHOWN = 6
CACHE_SECONDS = 20
PERIOD = timedelta(hours=1)
SAMPLE_ROWS = 2000
UNTAGGED = ""


@dataclass
class TagWait:
    """`typical`: median seconds from queued to claimed, of what was claimed in PERIOD.

    `ready` of `runners` that may take such tasks are online, busy ones too; `out` has the status
    of each of the others.
    """

    tag: str
    now: datetime
    typical: float | None = None
    waiting: int = 0
    oldest_at: datetime | None = None
    runners: int = 0
    ready: int = 0
    out: list[RunnerStatus] = field(default_factory=list)

    @property
    def is_stuck(self) -> bool:
        """Whether something waits that no runner could take now."""
        return self.waiting > 0 and self.ready == 0

    @property
    def look(self) -> str:
        """The colour of what is stuck: a warning where people took all runners out of service."""
        if not self.is_stuck:
            return ""
        return "warn" if standstill.is_on_purpose(self.out) else "bad"

    @property
    def figure(self) -> str:
        """The age of the oldest where all is stuck, else what is typical; empty if neither is."""
        if self.is_stuck and self.oldest_at is not None:
            return about((self.now - self.oldest_at).total_seconds())
        return "" if self.typical is None else duration_in_words(self.typical)

    @property
    def sentence(self) -> str:
        waiting = f"{self.waiting:,} waiting" if self.waiting else "none waiting"
        if not self.runners:
            return f"{waiting}, no runner has it" if self.tag else f"{waiting}, no runner"
        if not self.ready:
            return f"{waiting}, {standstill.of_a_tag(self.out)}"
        if self.ready < self.runners:
            return f"{waiting}, {self.ready} of {self.runners} ready"
        return f"{waiting}, {self.runners} runner{'' if self.runners == 1 else 's'}"


def waits_by_tag(
    project: Project, rows: Sequence[RunnerRow], *, now: datetime
) -> tuple[list[TagWait], int]:
    """The worst first, at most MAXIMUM_SHOWN, and how many there are. `rows`: all runners."""
    found: dict[str, TagWait] = defaultdict(lambda: TagWait("", now))
    for tag, seconds in _typical(project, now).items():
        found[tag].typical = seconds
    _count_waiting(found, project)
    _count_runners(found, project, rows)
    for tag, one in found.items():
        one.tag = tag
    worst = sorted(
        found.values(),
        key=lambda one: (not one.is_stuck, -one.waiting, -(one.typical or 0.0), one.tag),
    )
    return worst[:MAXIMUM_SHOWN], len(worst)


def _needs(queue: str) -> list[str]:
    return sorted(Queue(name=queue).required_tags) or [UNTAGGED]


def _typical(project: Project, now: datetime) -> dict[str, float]:
    key = f"forge:pages:tag-waits:{project.pk}"
    return cache.get_or_set(key, lambda: _medians(project, now), CACHE_SECONDS) or {}


def _medians(project: Project, now: datetime) -> dict[str, float]:
    begin = now - PERIOD
    # By the time when they were made, which has an index; who waited longer shows as waiting.
    rows = Task.objects.filter(project=project, created_at__gte=begin - PERIOD)
    rows = rows.filter(claimed_at__gte=begin).order_by("-created_at")
    waits: dict[str, list[float]] = defaultdict(list)
    fields = ("queue__name", "queued_at", "claimed_at")
    for queue, queued, claimed in rows.values_list(*fields)[:SAMPLE_ROWS]:
        for tag in _needs(queue):
            waits[tag].append((claimed - queued).total_seconds())
    return {tag: median(some) for tag, some in waits.items()}


def _count_waiting(found: dict[str, TagWait], project: Project) -> None:
    rows = Task.objects.filter(project=project, state=TaskState.QUEUED).order_by()
    counted = rows.values_list("queue__name").annotate(Count("pk"), Min("queued_at"))
    for queue, count, oldest in counted:
        for tag in _needs(queue):
            one = found[tag]
            one.waiting += count
            one.oldest_at = min(one.oldest_at or oldest, oldest)


def _count_runners(found: dict[str, TagWait], project: Project, rows: Sequence[RunnerRow]) -> None:
    pairs = Runner.tags.through.objects.filter(
        runner__project=project, runner__removed_at=None
    ).values_list("runner_id", "tag__name")
    row_by_id = {row.runner.pk: row for row in rows}
    offered = [*pairs, *((row.runner.pk, UNTAGGED) for row in rows if row.runner.takes_untagged)]
    for runner, tag in offered:
        one, row = found[tag], row_by_id.get(runner)
        one.runners += 1
        if row is not None and row.is_online:
            one.ready += 1
        else:
            # One that was added since the rows were read has not been heard yet.
            one.out.append(row.status if row else RunnerStatus.NEVER_CONTACTED)
