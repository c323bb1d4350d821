"""What all endpoints of the runner API have in common: token, message, and error answers."""

from __future__ import annotations

import functools
import ipaddress
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from projects.tokens import RUNNER_PREFIX, bearer_token, digest_of
from runners import quotas
from runners.models import Runner
from runners.refusals import refusals
from runners.worker.protocol import Message, ProtocolError

# Answers that honest workers get too, such as for a hint that came twice.
EXPECTED = (409, 426)

_Request = TypeVar("_Request", bound=Message)
Handler = Callable[[HttpRequest, Runner, _Request], Message | HttpResponse]


class Refusal(JsonResponse):
    """An error answer: a code for the worker, a sentence for whoever reads its output."""

    def __init__(self, status: int, code: str, sentence: str) -> None:
        super().__init__({"code": code, "message": sentence}, status=status)
        self.code = code
        self.sentence = sentence
        # Django would log each by itself, without the runner's name and without a limit.
        self._has_been_logged = True


def refusal(status: int, code: str, sentence: str) -> Refusal:
    return Refusal(status, code, sentence)


def runner_endpoint(
    kind: type[_Request],
) -> Callable[[Handler[_Request]], Callable[[HttpRequest], HttpResponse]]:
    """Make a view of a function that takes a runner and its message and answers with another.

    What it refuses is logged with the runner's name, and so is what the function refuses.
    """

    def decorate(handler: Handler[_Request]) -> Callable[[HttpRequest], HttpResponse]:
        @csrf_exempt  # no cookie is looked at, only the token
        @require_POST
        @functools.wraps(handler)
        def view(request: HttpRequest) -> HttpResponse:
            runner = authenticated(request)
            if runner is None:
                return _refuse_stranger(request)
            answer = _answer(request, runner, kind, handler)
            if isinstance(answer, Refusal):
                level = logging.INFO if answer.status_code in EXPECTED else logging.WARNING
                refusals.of_runner(runner, answer.code, answer.sentence, level=level)
            return answer

        return view

    return decorate


def _answer(
    request: HttpRequest, runner: Runner, kind: type[_Request], handler: Handler[_Request]
) -> HttpResponse:
    wait = quotas.requests.wait_before((runner.pk, kind))
    if wait:
        most = f"{quotas.requests.rate:g} requests of this kind a second"
        return _too_many(f"Runner {runner.name} may send {most}.", wait)
    try:
        body = request.body
        wait = quotas.message_bytes.wait_before(runner.pk, len(body))
        if wait:
            most = f"{quotas.message_bytes.rate / 1e6:.1f} MB a second"
            return _too_many(f"Runner {runner.name} may send {most}.", wait)
        message = kind.parse(body)
    except (ProtocolError, RequestDataTooBig) as error:
        return refusal(400, "malformed", str(error))
    answer = handler(request, runner, message)
    return answer if isinstance(answer, HttpResponse) else _response(answer)


def _too_many(sentence: str, wait: float) -> Refusal:
    seconds = math.ceil(wait)
    answer = refusal(429, "too_many_requests", f"{sentence} Try again in {seconds} s.")
    answer["Retry-After"] = str(seconds)
    return answer


def _refuse_stranger(request: HttpRequest) -> HttpResponse:
    """No token, or one that opens nothing: 401, and 429 when an address sends many of them."""
    network = quotas.network_of(address_of(request))
    wait = quotas.wrong_tokens.wait_before(network)
    if wait:
        refusals.of_stranger(network, "too_many_wrong_tokens", "more than anybody mistypes")
        return _too_many("Too many requests with a wrong token came from your address.", wait)
    refusals.of_stranger(network, *_about_token(request))
    return refusal(401, "unauthorized", "The runner token is unknown or was revoked.")


def _about_token(request: HttpRequest) -> tuple[str, str]:
    """A code, and whose token it was or what it looks like; never the token."""
    token = bearer_token(request.headers.get("Authorization", ""), RUNNER_PREFIX)
    if token is None:
        return "no_token", "no runner token was sent"
    removed = Runner.objects.filter(token_digest=digest_of(token)).first()
    if removed is not None:
        return "removed", f"the token of runner {removed.name} ({removed.pk}), which was removed"
    return "unknown_token", f"a runner token with the fingerprint {digest_of(token)[:8]}"


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
    forwarded = request.headers.get("X-Forwarded-For", "")
    return _address(request.META.get("REMOTE_ADDR", ""), forwarded)


def address_in(
    client: Sequence[object] | None, headers: Iterable[tuple[bytes, bytes]]
) -> str | None:
    """As `address_of`, from an ASGI scope."""
    forwarded = [text for name, text in headers if name == b"x-forwarded-for"]
    return _address(str(client[0]) if client else "", b",".join(forwarded).decode("latin-1"))


def _address(peer: str, forwarded: str) -> str | None:
    if settings.FORGE_BEHIND_PROXY and forwarded:
        return _valid(forwarded.rsplit(",", 1)[-1].strip())
    return _valid(peer)


def _valid(address: str) -> str | None:
    """The address, if it is one: it goes into a column that takes no other text."""
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return None
