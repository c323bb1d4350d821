"""The shape of every error, for the schema. Made by `projects.api_errors`."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiResponse
from rest_framework import serializers


class ErrorSerializer(serializers.Serializer[Any]):
    code = serializers.CharField(help_text="For programs: stable, in lower case.")
    message = serializers.CharField(help_text="For people: what is wrong and what to do.")
    fields = serializers.DictField(  # type: ignore[assignment]
        child=serializers.ListField(child=serializers.CharField()),
        required=False,
        help_text="For each field that was refused, the reasons.",
    )


_WHEN = {
    400: "The request is not valid.",
    401: "Not signed in, or the token is unknown or expired.",
    403: "Your role in this project does not allow this.",
    404: "There is nothing here that you may see.",
    409: "It collides with what is there: a name that is taken, a task that is finished.",
}

ERRORS: dict[int, OpenApiResponse] = {
    status: OpenApiResponse(ErrorSerializer, description) for status, description in _WHEN.items()
}
