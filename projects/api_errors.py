"""Errors of the REST API: JSON with a code, a sentence, and the fields it is about."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import exception_handler

SENTENCES = {
    "not_authenticated": "Sign in, or send a token: Authorization: Bearer fgu_…",
    "not_found": "There is nothing here that you may see.",
    "permission_denied": "Your role in this project does not allow this.",
}


def answer_for(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler: `{"code": …, "message": …, "fields": {…}}`."""
    response = exception_handler(error, context)
    if response is not None:
        response.data = _body(error)
    return response


def _body(error: Exception) -> dict[str, Any]:
    if isinstance(error, exceptions.ValidationError):
        fields = error.detail if isinstance(error.detail, dict) else {"": error.detail}
        return {"code": "invalid", "message": _first_sentence(fields), "fields": fields}
    code = _code(error)
    detail = str(getattr(error, "detail", error))
    return {"code": code, "message": SENTENCES.get(code, detail)}


def _code(error: Exception) -> str:
    if isinstance(error, Http404):
        return "not_found"
    if isinstance(error, PermissionDenied):
        return "permission_denied"
    codes = error.get_codes() if isinstance(error, exceptions.APIException) else "error"
    return codes if isinstance(codes, str) else "error"


def _first_sentence(fields: dict[str, Any]) -> str:
    name, detail = next(iter(fields.items()))
    while isinstance(detail, dict | list) and detail:
        detail = next(iter(detail.values())) if isinstance(detail, dict) else detail[0]
    return f"{name}: {detail}" if name and name != "non_field_errors" else str(detail)
