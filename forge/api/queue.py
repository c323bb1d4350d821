"""A project's queue: all that waits, in order; stop all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from forge.api.base import ApiView
from forge.api.errors import ERRORS
from forge.api.parsing import StrictMixin, whole_number
from forge.lists.task_rows import TaskRow, for_rows, rows_of
from projects.permissions import Action
from runners.worker.fields import MAXIMUM_ID
from tasks.line import MAXIMUM_COUNTED
from tasks.models import Task
from tasks.stopping import plan_stop_all, stop_all

if TYPE_CHECKING:
    from rest_framework.request import Request

PAGE_ROWS = 50
MAXIMUM_PAGE = 200


class WaitingSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="task.pk")
    template = serializers.IntegerField(source="task.template_id")
    state = serializers.CharField(source="task.state")
    attempt = serializers.IntegerField(source="task.attempt")
    created_at = serializers.DateTimeField(source="task.created_at")
    queued_at = serializers.DateTimeField(
        source="task.queued_at", help_text="Since when it waits: an attempt is queued anew."
    )
    tags = serializers.ListField(
        source="needs", child=serializers.CharField(), help_text="What its runner must have."
    )
    ahead = serializers.SerializerMethodField(
        help_text=f"How many with the same tags come first, counted to {MAXIMUM_COUNTED} and one "
        "more; null while it waits for approval."
    )
    waiting_for = serializers.CharField(source="note", help_text="What keeps it, in a sentence.")

    def get_ahead(self, row: TaskRow) -> int | None:
        return row.line.ahead if row.line else None


class QueueSerializer(serializers.Serializer[Any]):
    count = serializers.IntegerField(help_text="How many wait.")
    next = serializers.CharField(allow_null=True, help_text="Those that come later.")
    results = WaitingSerializer(many=True)


class StopAllSerializer(StrictMixin):
    scope = serializers.ChoiceField(
        choices=["all", "waiting"],
        default="all",
        help_text="Whether what runs is stopped too, or only what waits.",
    )
    until = serializers.IntegerField(
        required=False,
        min_value=1,
        max_value=MAXIMUM_ID,
        help_text="Only tasks up to this id. By default the newest one's at this moment.",
    )


class StoppedSerializer(serializers.Serializer[Any]):
    stopped = serializers.IntegerField(help_text="How many that waited are stopped now.")
    stopping = serializers.IntegerField(help_text="How many that run were told to stop.")
    remaining = serializers.IntegerField(
        help_text="How many are left. While there are any, ask again, with this `until`."
    )
    until = serializers.IntegerField()


class Queue(ApiView):
    serializer_class = QueueSerializer

    @extend_schema(
        operation_id="read_queue",
        parameters=[
            OpenApiParameter("after", int, description="Only what was queued after this task."),
            OpenApiParameter("page_size", int, description="At most 200. Default 50."),
        ],
        responses={200: QueueSerializer, **ERRORS},
    )
    def get(self, request: Request, pk: int) -> Response:
        """All that waits in the project, first in first out, with the reason of each."""
        project = self.project(pk, Action.PROJECT_VIEW)
        rows = Task.objects.filter(project=project).waiting().order_by()
        after, size = (
            whole_number(request.query_params.get(name, "0"), name)
            for name in ("after", "page_size")
        )
        size = min(size or PAGE_ROWS, MAXIMUM_PAGE)
        found = list(for_rows(rows.filter(pk__gt=after)).order_by("pk")[: size + 1])
        shown = rows_of(found[:size], now=timezone.now())
        body = {
            "count": rows.count(),
            "next": self._place(found[size - 1].pk) if len(found) > size else None,
            "results": WaitingSerializer(shown, many=True).data,
        }
        return Response(body)

    def _place(self, after: int) -> str:
        query = self.request.query_params.copy()
        query["after"] = str(after)
        return str(self.request.build_absolute_uri(f"?{query.urlencode()}"))


class StopAll(ApiView):
    serializer_class = StopAllSerializer

    @extend_schema(
        operation_id="stop_all",
        request=StopAllSerializer,
        responses={200: StoppedSerializer, **ERRORS},
    )
    def post(self, request: Request, pk: int) -> Response:
        """Stops all that waits and runs, as much as a request can; say `until` to go on."""
        project = self.project(pk, Action.TASK_STOP)
        given = self.checked(StopAllSerializer).validated_data
        until = given.get("until") or plan_stop_all(project).until
        part = stop_all(
            project=project,
            by=self.user,
            now=timezone.now(),
            until=until,
            only_waiting=given["scope"] == "waiting",
        )
        body = {"stopped": part.waiting, "stopping": part.running, "remaining": part.remaining}
        return Response(body | {"until": until})
