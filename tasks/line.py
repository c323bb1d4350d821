"""Who stands before a queued task: in its queue, and of its template."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import Case, IntegerField, OuterRef, QuerySet, Subquery, When

from tasks.lifecycle import HELD, TaskState
from tasks.models import Task

# A page shows that so many are ahead; to count 100,000 of them each time would be slow.
MAXIMUM_COUNTED = 1000


@dataclass(frozen=True)
class Line:
    """How many wait before it for the same tags, counted to MAXIMUM_COUNTED and one more.

    `holder` is the number of a task of its template that is held, `earlier` of one that waits
    before it: of tasks that must run alone, and None of others.
    """

    ahead: int
    holder: int | None = None
    holder_state: str | None = None
    earlier: int | None = None


class _CountOf(Subquery):
    """How many rows a subquery gives, its limit minded."""

    template = "(SELECT COUNT(*) FROM (%(subquery)s) counted)"
    output_field = IntegerField()


def _if_alone(rows: QuerySet[Any, Any]) -> Case:
    """What the database need not look for in templates that allow several runs."""
    return Case(When(is_exclusive=True, then=Subquery(rows)))


def lines_of(tasks: Iterable[Task]) -> dict[int, Line]:
    """By number, of tasks that are queued: one query, however many there are."""
    queued = Task.objects.filter(state=TaskState.QUEUED, pk__lt=OuterRef("pk"))
    before = queued.filter(queue=OuterRef("queue")).order_by().values("pk")
    # Without an order, for which the database would walk through all that wait.
    held = Task.objects.filter(template=OuterRef("template"), state__in=sorted(HELD)).order_by()
    earlier = queued.filter(template=OuterRef("template")).order_by("pk").values("pk")
    rows = Task.objects.filter(pk__in=[task.pk for task in tasks]).order_by()
    found = rows.annotate(
        ahead=_CountOf(before[: MAXIMUM_COUNTED + 1]),
        holder=_if_alone(held.values("pk")[:1]),
        holder_state=_if_alone(held.values("state")[:1]),
        earlier=_if_alone(earlier[:1]),
    )
    names = ("ahead", "holder", "holder_state", "earlier")
    return {pk: Line(*rest) for pk, *rest in found.values_list("pk", *names)}
