"""The one row that a unique condition can match."""

from __future__ import annotations

from typing import TypeVar

from django.core.exceptions import ObjectDoesNotExist
from django.db.models import Model, QuerySet

_Row = TypeVar("_Row", bound=Model)


def single(rows: QuerySet[_Row]) -> _Row | None:
    """The row of a set that has one at most, or None.

    Where requests are many: `first()` sorts by the primary key whatever is asked for, and to
    compile that order takes Django a good part of the time of so small a query. Raises
    MultipleObjectsReturned.
    """
    try:
        return rows.get()
    except ObjectDoesNotExist:
        return None
