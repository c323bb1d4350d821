"""What all endpoints of the runner API have in common: token, message, and error answers."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import TypeVar

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from projects.tokens import RUNNER_PREFIX, bearer_token, digest_of
from runners.models import Runner
from runners.worker.protocol import Message, ProtocolError

logger = logging.getLogger(__name__)

_Request = TypeVar("_Request", bound=Message)
Handler = Callable[[HttpRequest, Runner, _Request], Message | HttpResponse]


def refusal(status: int, code: str, sentence: str) -> JsonResponse:
    """An error answer: a code for the worker, a sentence for whoever reads its output."""
    return JsonResponse({"code": code, "message": sentence}, status=status)


def runner_endpoint(
    kind: type[_Request],
) -> Callable[[Handler[_Request]], Callable[[HttpRequest], HttpResponse]]:
    """Make a view of a function that takes a runner and its message and answers with another."""

    def decorate(handler: Handler[_Request]) -> Callable[[HttpRequest], HttpResponse]:
        @csrf_exempt  # no cookie is looked at, only the token
        @require_POST
        @functools.wraps(handler)
        def view(request: HttpRequest) -> HttpResponse:
            runner = authenticated(request)
            if runner is None:
                return refusal(401, "unauthorized", "The runner token is unknown or was revoked.")
            try:
                message = kind.parse(request.body)
            except (ProtocolError, RequestDataTooBig) as error:
                logger.warning("runner %s sent a wrong message: %s", runner.pk, error)
                return refusal(400, "malformed", str(error))
            answer = handler(request, runner, message)
            return answer if isinstance(answer, HttpResponse) else _response(answer)

        return view

    return decorate


def _response(message: Message) -> HttpResponse:
    response = HttpResponse(message.as_bytes(), content_type="application/json")
    # The answer to a claim holds secrets.
    response["Cache-Control"] = "no-store"
    return response


def authenticated(request: HttpRequest) -> Runner | None:
    """The runner whose token the request carries.

    The row is found by the digest of 256 random bits; comparing times tells nothing about it.
    """
    token = bearer_token(request.headers.get("Authorization", ""), RUNNER_PREFIX)
    if token is None:
        return None
    rows = Runner.objects.present().select_related("project")
    return rows.filter(token_digest=digest_of(token)).first()


def address_of(request: HttpRequest) -> str | None:
    """The caller's address; behind a trusted proxy, the one that the proxy saw."""
    if settings.FORGE_BEHIND_PROXY:
        forwarded = request.headers.get("X-Forwarded-For", "")
        if forwarded:
            return forwarded.rsplit(",", 1)[-1].strip()
    return request.META.get("REMOTE_ADDR") or None
