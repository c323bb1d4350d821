"""Errors of the REST API: JSON with a code, a sentence, and the fields it is about.

`{"code": "invalid", "message": "name: This field is required.", "fields": {"name": [...]}}`
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from django.core import exceptions as django_errors
from django.core.signals import got_request_exception
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import exception_handler

from projects.errors import ChangedMeanwhileError, ForgeError
from projects.outage import RETRY_AFTER_SECONDS, SENTENCE, is_outage

logger = logging.getLogger(__name__)

SENTENCES = {
    "not_authenticated": "Sign in, or send a token: Authorization: Bearer fgu_…",
    "not_found": "There is nothing here that you may see.",
    "no_such_page": "This list has no such page. Begin with ?page=1; the last has no `next`.",
    "permission_denied": "Your role in this project does not allow this. Ask one of its owners.",
    "unsupported_media_type": "Send JSON, with the header Content-Type: application/json.",
    "too_large": "The request is too large. Send less at once.",
    "bad_request": "The request cannot be read. Check its headers and its body.",
    "unavailable": SENTENCE,
    "internal": "Forge failed. Its administrators find the reason in the server's log.",
}
_CSRF_REFUSAL = "CSRF Failed"


def answer_for(error: Exception, context: dict[str, Any]) -> Response:
    """DRF's exception handler: every error becomes JSON, also one that nobody expected."""
    response = exception_handler(_in_terms_of_drf(error), context)
    if response is not None:
        response.data = _body(error, context)
        return response
    if isinstance(error, ChangedMeanwhileError):
        return _answer(HTTPStatus.PRECONDITION_FAILED, _code_of(error), str(error))
    if isinstance(error, ForgeError):
        return _answer(HTTPStatus.CONFLICT, _code_of(error), str(error))
    if isinstance(error, django_errors.RequestDataTooBig):
        return _answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large")
    if isinstance(error, django_errors.BadRequest | django_errors.SuspiciousOperation):
        return _answer(HTTPStatus.BAD_REQUEST, "bad_request")
    return _failure(error, context)


def _in_terms_of_drf(error: Exception) -> Exception:
    if isinstance(error, django_errors.ValidationError):
        return exceptions.ValidationError(_validation_detail(error))
    return error


def _answer(status: HTTPStatus, code: str, message: str = "") -> Response:
    return Response({"code": code, "message": message or SENTENCES[code]}, status=status)


def _failure(error: Exception, context: dict[str, Any]) -> Response:
    """Not the client's fault: into the log and to whoever listens to Django's own signal."""
    request = context.get("request")
    logger.error("%s %s failed", _method(context), getattr(request, "path", ""), exc_info=error)
    if is_outage(error):
        response = _answer(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable")
        response["Retry-After"] = RETRY_AFTER_SECONDS
        return response
    got_request_exception.send(sender=answer_for, request=request)
    return _answer(HTTPStatus.INTERNAL_SERVER_ERROR, "internal")


def _body(error: Exception, context: dict[str, Any]) -> dict[str, Any]:
    if isinstance(error, django_errors.ValidationError):
        return _invalid(_validation_detail(error))
    if isinstance(error, exceptions.ValidationError):
        return _invalid(error.detail)
    code = _code(error)
    return {"code": code, "message": _sentence(code, error, context)}


def _sentence(code: str, error: Exception, context: dict[str, Any]) -> str:
    if code == "csrf_failed":
        return f"{_detail(error)}. Send the CSRF cookie's value in the header X-CSRFToken."
    if code == "method_not_allowed":
        allowed = ", ".join(context["view"].allowed_methods)
        return f"{_method(context)} is not possible here. Possible: {allowed}."
    return SENTENCES.get(code, _detail(error))


def _code(error: Exception) -> str:
    if isinstance(error, Http404):
        return "not_found"
    if isinstance(error, django_errors.PermissionDenied):
        return "permission_denied"
    if _detail(error).startswith(_CSRF_REFUSAL):
        return "csrf_failed"
    codes = error.get_codes() if isinstance(error, exceptions.APIException) else "error"
    return codes if isinstance(codes, str) else "error"


def _code_of(error: ForgeError) -> str:
    """`TaskFinishedError` becomes `task_finished`."""
    name = type(error).__name__.removesuffix("Error")
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _detail(error: Exception) -> str:
    return str(getattr(error, "detail", error)).removesuffix(".")


def _method(context: dict[str, Any]) -> str:
    return str(getattr(context.get("request"), "method", ""))


def _validation_detail(error: django_errors.ValidationError) -> Any:
    return error.message_dict if hasattr(error, "error_dict") else error.messages


def _invalid(detail: Any) -> dict[str, Any]:
    given = detail if isinstance(detail, Mapping) else {"": detail}
    fields = {str(name): list(_sentences(found)) for name, found in given.items()}
    name, sentences = next(iter(fields.items()))
    named = {field: found for field, found in fields.items() if not _is_about_all(field)}
    message = sentences[0] if _is_about_all(name) else f"{name}: {sentences[0]}"
    body: dict[str, Any] = {"code": "invalid", "message": message}
    return body | {"fields": named} if named else body


def _is_about_all(field: str) -> bool:
    return field in ("", "non_field_errors", django_errors.NON_FIELD_ERRORS)


def _sentences(detail: Any) -> Iterator[str]:
    """The sentences of a list, or of lists within lists and mappings, without repetitions."""
    if isinstance(detail, Mapping):
        detail = list(detail.values())
    if not isinstance(detail, list):
        yield str(detail)
        return
    found = dict.fromkeys(sentence for item in detail for sentence in _sentences(item))
    yield from found or ["This is not valid."]
