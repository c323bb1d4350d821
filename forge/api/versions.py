"""Versions of what scripts change: an ETag with what is read, If-Match with what is changed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from rest_framework.response import Response

from forge.api.errors import ErrorSerializer
from projects.versions import version_of

if TYPE_CHECKING:
    from django.db.models import Model
    from rest_framework.request import Request
    from rest_framework.serializers import BaseSerializer

IF_MATCH = OpenApiParameter(
    "If-Match",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="The ETag of what you read: nothing is changed if it is not that any more.",
)
OUTDATED = {
    412: OpenApiResponse(ErrorSerializer, "It was changed since you read what If-Match names.")
}
# A server in between that compresses answers marks their ETags as weak.
_ETAG = re.compile(r'\s*(?:W/)?"?([^"]*)"?\s*')


def version_wanted(request: Request) -> str:
    """The version that the row has to be of; empty for any."""
    given = request.headers.get("If-Match", "").strip()
    if given in ("", "*"):
        return ""
    found = _ETAG.fullmatch(given)
    # What cannot be read is no version of anything.
    return (found[1] if found else "") or "unreadable"


def with_version(row: Model, kind: type[BaseSerializer[Any]]) -> Response:
    """The answer that shows this row as it is stored.

    The version is read first: a change in between makes it too old, which is noticed, and never
    newer than what is shown.
    """
    headers = {"ETag": f'"{version_of(row)}"'}
    return Response(kind(row).data, headers=headers)
