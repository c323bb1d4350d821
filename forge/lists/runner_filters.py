"""Runners filtered, the worst first, and counted by status, by the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db.models import Case, Count, IntegerField, Q, QuerySet, When

from projects.words import whole_number
from runners.models import Runner
from runners.standing import status_in_database
from runners.status import RunnerStatus
from tasks.models import Task

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from projects.models import Project

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
# What one looks for: groups of statuses, by the word in the address.
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


def is_of_status(status: str, word: str) -> bool:
    """Whether it is of the group or status that was asked for; nothing asked for is any."""
    return not word or (status in GROUPS[word][1] if word in GROUPS else status == word)


def of_status(rows: QuerySet[Any], word: str) -> QuerySet[Any]:
    """Of a group or of one status; what is neither finds nothing."""
    if not word:
        return rows
    wanted = GROUPS[word][1] if word in GROUPS else frozenset({word})
    return rows.filter(standing__in=sorted(wanted))


def worst_first(rows: QuerySet[Any]) -> QuerySet[Any]:
    ranks = [When(standing=str(status), then=rank) for rank, status in enumerate(ORDER)]
    return rows.order_by(Case(*ranks, output_field=IntegerField()), "name", "pk")


def counts_of(rows: QuerySet[Any]) -> Counter[str]:
    """By status, how many there are."""
    return Counter(dict(rows.values_list("standing").annotate(Count("pk"))))


def matching(project: Project, asked: Mapping[str, str]) -> QuerySet[Any]:
    """The project's runners with this tag, version and text, of any status."""
    return _with_text(Runner.objects.present().filter(project=project).order_by(), asked)
