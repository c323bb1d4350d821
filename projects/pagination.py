from collections.abc import Sequence
from typing import Any

from django.db.models import QuerySet
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
