"""Pages of a list that may be a million rows long, newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rest_framework.response import Response
from rest_framework.utils.urls import remove_query_param, replace_query_param

from forge.api.parsing import whole_number
from projects.pagination import BoundedPaginator, CountedTo, Pages

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from rest_framework.request import Request
    from rest_framework.views import APIView

COUNTED = 1_000


class _Paginator(BoundedPaginator):
    limit = COUNTED


class LongPages(Pages):
    """`?page=` within the newest COUNTED rows; `?before=` a row's id reads on from there.

    By key, so that the last page costs what the first does. `next` leads from one into the other.
    """

    django_paginator_class = _Paginator

    def paginate_queryset(
        self, queryset: QuerySet[Any] | Any, request: Request, view: APIView | None = None
    ) -> list[Any] | None:
        """Raises NoSuchPageError, and ValidationError for a `before` that is no number."""
        before = request.query_params.get("before")
        self.request, self._is_by_key = request, before is not None
        self._url = request.build_absolute_uri()
        if before is None:
            rows = super().paginate_queryset(queryset, request, view) or []
            is_last = self.page is not None and not self.page.has_next()
            is_cut = self.page is not None and isinstance(self.page.paginator.count, CountedTo)
            self._older_than = rows[-1].pk if rows and is_last and is_cut else None
            return rows
        size = self.get_page_size(request) or COUNTED
        found = list(queryset.filter(pk__lt=whole_number(before, "before"))[: size + 1])
        self._older_than = found[size - 1].pk if len(found) > size else None
        self._count = int(_Paginator(queryset, size).count)  # as on the pages before
        return found[:size]

    def get_next_link(self) -> str | None:
        if self._older_than is None:
            return None if self._is_by_key else super().get_next_link()
        url = remove_query_param(self._url, self.page_query_param)
        return str(replace_query_param(url, "before", self._older_than))

    def get_paginated_response(self, data: Any) -> Response:
        if not self._is_by_key:
            return super().get_paginated_response(data)
        body = {"count": self._count, "next": self.get_next_link(), "previous": None}
        return Response({**body, "results": data})
