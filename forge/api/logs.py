"""A task's log: the bytes as the runner journalled them, streamed, never decoded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.exceptions import NotFound, ValidationError

from forge.api.errors import ERRORS
from forge.api.parsing import whole_number
from forge.api.tasks import TaskView
from forge.streaming import streamed
from projects.permissions import Action
from tasks.attempts import as_of_attempt
from tasks.log import attachment_headers, read_log

if TYPE_CHECKING:
    from rest_framework.request import Request

    from tasks.models import Task

# A runner's pieces may be a few bytes each; sent one by one they would cost a thread hop each.
PIECE_BYTES = 256 * 1024

_OFFSET = OpenApiParameter("offset", int, description="Leave out this many bytes. Default 0.")
_OF_ATTEMPT = OpenApiParameter(
    "attempt", int, description="The log of an earlier attempt. Default: that of the latest."
)
_LIMIT = OpenApiParameter("limit", int, description="At most this many bytes. Default: all.")
_TAIL = OpenApiParameter(
    "tail", int, description="Only so many bytes from the end; not together with `offset`."
)
_BEGINS = OpenApiParameter(
    "Forge-Log-Offset",
    int,
    OpenApiParameter.HEADER,
    response=[200],
    description="Where in the log this answer begins.",
)
_GAP = OpenApiParameter(
    "Forge-Log-Gap",
    str,
    OpenApiParameter.HEADER,
    response=[200],
    description="Only of a log that is above its limit: `offset=N; bytes=N`, what is left out.",
)
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
        parameters=[
            *(_OFFSET, _LIMIT, _TAIL, _OF_ATTEMPT),
            *(_BEGINS, _GAP, _COMPLETE, _ATTEMPT),
        ],
        responses={(200, "text/plain"): _LOG, **ERRORS},
    )
    def get(self, request: Request, pk: int) -> StreamingHttpResponse:
        """What the task wrote, byte for byte, secrets masked."""
        task = _as_asked(self.task(pk, Action.PROJECT_VIEW), request)
        offset, length = _part(request, task.log_bytes)
        pieces = _gathered(read_log(task, offset=offset, limit=length))
        return StreamingHttpResponse(
            streamed(request._request, pieces),
            content_type="text/plain; charset=utf-8",
            headers=_headers(task, offset, length),
        )


def _as_asked(task: Task, request: Request) -> Task:
    """The task with the log of the attempt that is asked for. Raises NotFound."""
    number = request.query_params.get("attempt")
    if number is None:
        return task
    found = as_of_attempt(task, whole_number(number, "attempt"))
    if found is None:
        raise NotFound
    return found


def _part(request: Request, log_bytes: int) -> tuple[int, int]:
    """(offset, length) of what is asked for. Raises ValidationError."""
    asked = {
        name: whole_number(request.query_params[name], name)
        for name in ("offset", "limit", "tail")
        if name in request.query_params
    }
    if {"offset", "tail"} <= asked.keys():
        raise ValidationError({"tail": "Give offset or tail, not both."})
    offset = asked.get("offset", 0)
    if "tail" in asked:
        offset = max(log_bytes - asked["tail"], 0)
    length = max(log_bytes - offset, 0)
    return offset, min(length, asked.get("limit", length))


def _headers(task: Task, offset: int, length: int) -> dict[str, str]:
    headers = {
        # With its length known, an answer that breaks off is not taken for a whole one.
        "Content-Length": str(length),
        "Forge-Log-Offset": str(offset),
        "Forge-Log-Complete": "true" if task.log_complete else "false",
        "Forge-Attempt": str(task.attempt),
        **attachment_headers(task),
    }
    if task.log_gap_bytes:
        headers["Forge-Log-Gap"] = f"offset={task.log_gap_offset}; bytes={task.log_gap_bytes}"
    return headers


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
