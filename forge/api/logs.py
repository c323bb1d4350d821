"""A task's log: the bytes as the runner journalled them, streamed, never decoded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema

from forge.api.errors import ERRORS
from forge.api.tasks import TaskView, whole_number
from forge.streaming import streamed
from projects.permissions import Action
from tasks.log import attachment_headers, read_log

if TYPE_CHECKING:
    from rest_framework.request import Request

    from tasks.models import Task

# A runner's pieces may be a few bytes each; sent one by one they would cost a thread hop each.
PIECE_BYTES = 256 * 1024

_OFFSET = OpenApiParameter("offset", int, description="Leave out this many bytes. Default 0.")
_COMPLETE = OpenApiParameter(
    "Forge-Log-Complete",
    str,
    OpenApiParameter.HEADER,
    response=[200],
    enum=["true", "false"],
    description="Whether the log ends here: Forge holds all that the runner had.",
)
_ATTEMPT = OpenApiParameter(
    "Forge-Attempt",
    int,
    OpenApiParameter.HEADER,
    response=[200],
    description="Which attempt wrote this log. Offsets of another attempt mean nothing here.",
)
_LOG = OpenApiResponse(OpenApiTypes.STR, "The bytes of the log.")


class TaskLog(TaskView):
    @extend_schema(
        operation_id="read_task_log",
        parameters=[_OFFSET, _COMPLETE, _ATTEMPT],
        responses={(200, "text/plain"): _LOG, **ERRORS},
    )
    def get(self, request: Request, pk: int) -> StreamingHttpResponse:
        """What the task wrote, byte for byte, secrets masked."""
        task = self.task(pk, Action.PROJECT_VIEW)
        offset = whole_number(request.query_params.get("offset", "0"), "offset")
        pieces = _gathered(read_log(task, offset=offset))
        return StreamingHttpResponse(
            streamed(request._request, pieces),
            content_type="text/plain; charset=utf-8",
            headers=_headers(task, offset),
        )


def _headers(task: Task, offset: int) -> dict[str, str]:
    # With its length known, an answer that breaks off is not taken for a whole one.
    return {
        "Content-Length": str(max(task.log_bytes - offset, 0)),
        "Forge-Log-Complete": "true" if task.log_complete else "false",
        "Forge-Attempt": str(task.attempt),
        **attachment_headers(task),
    }


def _gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of about PIECE_BYTES."""
    gathered = bytearray()
    for piece in pieces:
        gathered += piece
        if len(gathered) >= PIECE_BYTES:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)
