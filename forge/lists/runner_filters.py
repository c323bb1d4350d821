"""Runners filtered, the worst first, and counted by status, by the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from django.db.models import Case, Count, IntegerField, Q, QuerySet, When

from projects.words import whole_number
from runners.models import Runner
from runners.standing import status_in_database
from runners.status import RunnerStatus
from tasks.models import Task

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from projects.models import Project

Rows = TypeVar("Rows", bound=QuerySet[Any])
# The worst first.
ORDER = (
    RunnerStatus.UNHEALTHY,
    RunnerStatus.OFFLINE,
    RunnerStatus.NEVER_CONTACTED,
    RunnerStatus.DRAINING,
    RunnerStatus.PAUSED,
    RunnerStatus.BUSY,
    RunnerStatus.IDLE,
    RunnerStatus.REVOKED,
)
# How long a new runner may take to be started on its host before anybody misses it.
FIRST_CONTACT = timedelta(hours=1)
# What one looks for: groups of statuses, by the word in the address. A runner that is new is in
# none: whoever adds one needs a while to start it, and no alarm meanwhile.
GROUPS: dict[str, tuple[str, frozenset[str]]] = {
    "trouble": (
        "Need attention",
        frozenset(
            {RunnerStatus.UNHEALTHY, RunnerStatus.OFFLINE, RunnerStatus.NEVER_CONTACTED},
        ),
    ),
    "ready": ("Ready", frozenset({RunnerStatus.IDLE, RunnerStatus.BUSY})),
    "out": ("Out on purpose", frozenset({RunnerStatus.PAUSED, RunnerStatus.DRAINING})),
}
STATUSES = tuple(status for status in ORDER if status != RunnerStatus.REVOKED)
NAMES = ("status", "project", "tag", "version", "q")
MAXIMUM_TEXT = 100


def asked_for(query: Mapping[str, str]) -> dict[str, str]:
    """What the address says of NAMES, without what is empty."""
    given = {name: query.get(name, "").replace("\0", "").strip() for name in NAMES}
    return {name: text[:MAXIMUM_TEXT] for name, text in given.items() if text}


def narrowed(user: User, asked: Mapping[str, str], *, now: datetime) -> QuerySet[Any]:
    """Those that `user` may see and asks for, of any status, with `standing`, their status."""
    holding = Task.objects.for_user(user).held().order_by().values("runner")
    rows = Runner.objects.for_user(user).order_by()
    rows = rows.annotate(standing=status_in_database(now, holding=holding))
    if project := asked.get("project"):
        rows = rows.filter(project_id=whole_number(project))
    return _with_text(rows, asked)


def _with_text(rows: QuerySet[Any], asked: Mapping[str, str]) -> QuerySet[Any]:
    if tag := asked.get("tag"):
        rows = rows.filter(tags__name=tag)
    if version := asked.get("version"):
        rows = rows.filter(version=version)
    if text := asked.get("q"):
        places = Q(name__icontains=text) | Q(host_name__icontains=text) | Q(address__icontains=text)
        rows = rows.filter(places)
    return rows


def is_new(runner: Runner, *, now: datetime) -> bool:
    """Whether it was just added and is not missed yet, as `_is_new` of the database."""
    has_time = runner.last_heartbeat_at is None and runner.created_at >= now - FIRST_CONTACT
    return has_time and not runner.is_quarantined(now=now)


def _is_new(now: datetime) -> Q:
    has_time = Q(last_heartbeat_at=None, created_at__gte=now - FIRST_CONTACT)
    return has_time & ~Q(quarantined_until__isnull=False, quarantined_until__gt=now)


def group_of(status: str, *, is_new: bool) -> str:
    """The word of its group; empty if it is in none."""
    words = (word for word, (_, statuses) in GROUPS.items() if status in statuses)
    return "" if is_new else next(words, "")


def of_status(rows: Rows, word: str, *, now: datetime) -> Rows:
    """Of a group or of one status; what is neither finds nothing. `rows` have their `standing`."""
    if word in GROUPS:
        return rows.filter(standing__in=sorted(GROUPS[word][1])).exclude(_is_new(now))
    return rows.filter(standing=word) if word else rows


def worst_first(rows: QuerySet[Any]) -> QuerySet[Any]:
    ranks = [When(standing=str(status), then=rank) for rank, status in enumerate(ORDER)]
    return rows.order_by(Case(*ranks, output_field=IntegerField()), "name", "pk")


def counts_of(rows: QuerySet[Any], *, now: datetime) -> Counter[str]:
    """By group, how many there are; those of none too, by the empty word."""
    counts: Counter[str] = Counter()
    flagged = rows.annotate(is_new=Case(When(_is_new(now), then=True), default=False))
    for status, new, count in flagged.values_list("standing", "is_new").annotate(Count("pk")):
        counts[group_of(status, is_new=new)] += count
    return counts


def matching(project: Project, asked: Mapping[str, str]) -> QuerySet[Any]:
    """The project's runners with this tag, version and text, of any status."""
    return _with_text(Runner.objects.present().filter(project=project).order_by(), asked)
