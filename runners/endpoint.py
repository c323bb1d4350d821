"""What all endpoints of the runner API have in common: token, message, and error answers."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from projects.tokens import RUNNER_PREFIX, bearer_token
from runners.models import Runner, RunnerToken
from runners.worker.protocol import Message, ProtocolError

logger = logging.getLogger(__name__)

# Which runner a worker is, once it knows: `runner-7`.
RUNNER_HEADER = "Forge-Runner"

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
                return refusal(401, *_why_refused(request))
            who = f"runner {runner.pk}"
            return answer_to(request, kind, who, functools.partial(handler, request, runner))

        return view

    return decorate


def answer_to(
    request: HttpRequest,
    kind: type[_Request],
    who: str,
    handle: Callable[[_Request], Message | HttpResponse],
) -> HttpResponse:
    """Read the message of a caller who is let in, and send what `handle` makes of it."""
    try:
        message = kind.parse(request.body)
    except (ProtocolError, RequestDataTooBig) as error:
        logger.warning("%s sent a wrong message: %s", who, error)
        return refusal(400, "malformed", str(error))
    answer = handle(message)
    return answer if isinstance(answer, HttpResponse) else _response(answer)


def _response(message: Message) -> HttpResponse:
    return HttpResponse(message.as_bytes(), content_type="application/json")


def authenticated(request: HttpRequest) -> Runner | None:
    """The runner whose token the request carries; any of those that are valid at once.

    A worker also says which runner it is. The token of another one is no token for it: whoever
    puts a wrong file in place would otherwise end both workers.
    """
    row = _token_of(request)
    now = timezone.now()
    if row is None or not row.is_valid(now=now) or row.runner.removed_at is not None:
        return None
    if request.headers.get(RUNNER_HEADER, row.runner.account) != row.runner.account:
        return None
    row.note_use(now=now)
    return row.runner


def _token_of(request: HttpRequest) -> RunnerToken | None:
    token = bearer_token(request.headers.get("Authorization", ""), RUNNER_PREFIX)
    return RunnerToken.objects.find(token) if token is not None else None


def seconds_left(request: HttpRequest, *, now: datetime) -> float | None:
    """How long the token of the request still works; None for the current one."""
    row = _token_of(request)
    if row is None or row.expires_at is None:
        return None
    return max((row.expires_at - now).total_seconds(), 0.0)


def _why_refused(request: HttpRequest) -> tuple[str, str]:
    """A code and a sentence for whoever holds a token that opens nothing (any more)."""
    row = _token_of(request)
    if row is None:
        return "unauthorized", "The runner token is unknown or was revoked."
    if row.runner.removed_at is not None:
        return "removed", f"Runner {row.runner.name} was removed."
    if not row.is_valid(now=timezone.now()):
        return "replaced", f"A newer token has replaced this one of runner {row.runner.name}."
    return "other_runner", f"This is the token of another runner, {row.runner.name}."


def address_of(request: HttpRequest) -> str | None:
    """The caller's address; behind a trusted proxy, the one that the proxy saw."""
    if settings.FORGE_BEHIND_PROXY:
        forwarded = request.headers.get("X-Forwarded-For", "")
        if forwarded:
            return forwarded.rsplit(",", 1)[-1].strip()
    return request.META.get("REMOTE_ADDR") or None
