"""Pages of lists: of the API's, and how far the rows of long ones are counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.utils.functional import cached_property
from rest_framework.exceptions import NotFound
from rest_framework.pagination import PageNumberPagination
from rest_framework.request import Request
from rest_framework.views import APIView


class NoSuchPageError(NotFound):
    """The list is there, and this page of it is not."""

    default_code = "no_such_page"
    default_detail = "This list has no such page."


class Pages(PageNumberPagination):
    """`?page=` and `?page_size=`, at most 200 rows a page."""

    page_size_query_param = "page_size"
    max_page_size = 200

    def paginate_queryset(
        self, queryset: QuerySet[Any] | Sequence[Any], request: Request, view: APIView | None = None
    ) -> list[Any] | None:
        """Raises NoSuchPageError for a number beyond the end, or what is none."""
        try:
            return super().paginate_queryset(queryset, request, view)
        except NotFound as error:
            raise NoSuchPageError from error


class CountedTo(int):
    """How many rows were counted before the counting was given up: `1,000+` in words."""

    def __str__(self) -> str:
        return f"{int(self):,}+"


class BoundedPaginator(Paginator):  # type: ignore[type-arg]  # cannot be subscripted at run time
    """Counts `limit` rows and no further: what is beyond is found by filters, or by key."""

    limit = 1000

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        if not isinstance(rows, QuerySet):
            return len(rows)
        # In the list's order: unordered, the database would look for new rows from the oldest on.
        found = rows[: self.limit + 1].count()
        return found if found <= self.limit else CountedTo(self.limit)
