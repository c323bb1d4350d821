"""Lists of some hundred rows, page by page. Long ones are paged by key, where they are read."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from django.db.models import QuerySet

Row = TypeVar("Row")


class Paged(Generic[Row]):
    """One page of a list, and what its foot says; a number beyond the end gives the last page."""

    def __init__(self, rows: QuerySet[Any, Row] | list[Row], page: int, length: int) -> None:
        self.count = len(rows) if isinstance(rows, list) else rows.count()
        self.pages = max(-(-self.count // length), 1)
        self.page = min(max(page, 1), self.pages)
        first = (self.page - 1) * length
        self.rows: list[Row] = list(rows[first : first + length])
        self.first = first + 1 if self.rows else 0
        self.last = first + len(self.rows)

    @property
    def before(self) -> int | None:
        """The number of the page before this one."""
        return self.page - 1 if self.page > 1 else None

    @property
    def after(self) -> int | None:
        return self.page + 1 if self.page < self.pages else None
