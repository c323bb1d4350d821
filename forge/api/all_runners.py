"""The runners of all projects that somebody may see."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.generics import ListAPIView

from forge.api.base import ApiView
from forge.api.errors import ERRORS
from forge.api.runners import RunnerSerializer, with_running
from forge.lists.runner_filters import (
    GROUPS,
    STATUSES,
    asked_for,
    narrowed,
    of_status,
    worst_first,
)
from runners.models import Runner

if TYPE_CHECKING:
    from rest_framework.request import Request
    from rest_framework.response import Response

WORDS = [*(str(status) for status in STATUSES), *GROUPS]
_FILTERS = [
    OpenApiParameter("status", enum=WORDS, description="A status, or a group of them."),
    OpenApiParameter("project", int, description="Only of this project."),
    OpenApiParameter("tag", str, description="Only those that have this tag."),
    OpenApiParameter("version", str, description="Only workers of this version."),
    OpenApiParameter("q", str, description="A part of the name, host name or address."),
]


class AllRunners(ApiView, ListAPIView[Runner]):
    serializer_class = RunnerSerializer

    def get_queryset(self) -> QuerySet[Runner]:
        """Raises ValidationError for a status that there is not."""
        asked = asked_for(self.request.query_params)
        status = asked.get("status", "")
        if status and status not in WORDS:
            message = f"There is no such status. Possible: {', '.join(WORDS)}."
            raise ValidationError({"status": message})
        now = timezone.now()
        rows = narrowed(self.user, asked, now=now)
        return with_running(worst_first(of_status(rows, status, now=now)))

    @extend_schema(
        operation_id="list_all_runners",
        parameters=_FILTERS,
        responses={200: RunnerSerializer, **ERRORS},
    )
    def get(self, request: Request) -> Response:
        """The runners of all your projects, the worst first; an administrator's, of all."""
        return self.list(request)
