"""How one runner has done of late: what it carried out, and how much of it was in use."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.core.cache import cache
from django.db.models import Count, Q

from forge.pages.periods import DAY, FAILURES, ended_since, figures_of
from runners.models import Runner

CACHE_SECONDS = 20
PERIOD = timedelta(days=1)


@dataclass(frozen=True)
class Health:
    """Of the last 24 hours; `percent`: the share of its slots that was in use."""

    ended: int
    failed: int
    percent: int

    @property
    def is_failing(self) -> bool:
        """Whether more went wrong than right, of more than a few: look at the host."""
        return self.ended >= 3 and 2 * self.failed > self.ended


def health_of(runner: Runner, *, now: datetime) -> Health:
    key = f"forge:pages:runner-health:{runner.pk}"
    found: Health | None = cache.get(key)
    if found is None:
        found = _health_of(runner, now)
        cache.set(key, found, CACHE_SECONDS)
    return found


def _health_of(runner: Runner, now: datetime) -> Health:
    begin = now - PERIOD
    failures = Q(state__in=sorted(FAILURES))
    counts = [
        rows.filter(runner=runner).aggregate(ended=Count("pk"), failed=Count("pk", filter=failures))
        for rows in ended_since(runner.project, begin)
    ]
    figures = figures_of(runner.project, DAY, now=now)
    offered = (now - max(runner.created_at, figures.begin)).total_seconds() * runner.slots
    share = min(figures.held.get(runner.pk, 0.0) / max(offered, 1.0), 1.0)
    ended, failed = (sum(part[name] for part in counts) for name in ("ended", "failed"))
    return Health(ended, failed, round(100 * share))
