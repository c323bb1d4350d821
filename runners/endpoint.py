"""What all endpoints of the runner API have in common: token, message, and error answers."""

from __future__ import annotations

import functools
import ipaddress
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TypeVar

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from projects.audit.actor import Actor, Way, acting
from projects.tokens import RUNNER_PREFIX, bearer_token, digest_of
from runners import quotas
from runners.knocks import knocks, registration_knocks
from runners.models import Runner, RunnerToken
from runners.refusals import refusals
from runners.worker.fields import Message, ProtocolError

# Answers that honest workers get too, such as for a hint that came twice.
EXPECTED = (409, 426)

# Which runner a worker is, once it knows: `runner-7`.
RUNNER_HEADER = "Forge-Runner"
UNKNOWN_TOKEN = "unknown_token"  # noqa: S105  # a code for the log
UNKNOWN_REGISTRATION_TOKEN = "unknown_registration_token"  # noqa: S105  # as the one above
_KNOCKS = {UNKNOWN_TOKEN: knocks, UNKNOWN_REGISTRATION_TOKEN: registration_knocks}

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
    kind: type[_Request], *, size: quotas.Quota = quotas.message_bytes
) -> Callable[[Handler[_Request]], Callable[[HttpRequest], HttpResponse]]:
    """Make a view of a function that takes a runner and its message and answers with another.

    What it refuses is logged with the runner's name, and so is what the function refuses. `size`
    is charged with the length of each message.
    """

    def decorate(handler: Handler[_Request]) -> Callable[[HttpRequest], HttpResponse]:
        @csrf_exempt  # no cookie is looked at, only the token
        @require_POST
        @functools.wraps(handler)
        def view(request: HttpRequest) -> HttpResponse:
            row = _token_of(request)
            runner = _authenticated(request, row)
            if runner is None:
                return _refuse_token(request, row)
            with acting(lambda: Actor(Way.RUNNER, runner.name, address=address_of(request))):
                answer = _answer(request, runner, kind, size, handler)
            if isinstance(answer, Refusal):
                level = logging.INFO if answer.status_code in EXPECTED else logging.WARNING
                refusals.of_runner(runner, answer.code, answer.sentence, level=level)
            return answer

        return view

    return decorate


def _answer(
    request: HttpRequest,
    runner: Runner,
    kind: type[_Request],
    size: quotas.Quota,
    handler: Handler[_Request],
) -> HttpResponse:
    wait = quotas.requests.wait_before((runner.pk, kind))
    if wait:
        most = f"{quotas.requests.rate:g} requests of this kind a second"
        return too_many(f"Runner {runner.name} may send {most}.", wait)
    try:
        body = request.body
        wait = size.wait_before(runner.pk, len(body))
        if wait:
            most = f"{size.rate / 1e6:.1f} MB a second"
            return too_many(f"Runner {runner.name} may send {most}.", wait, "too_many_bytes")
        message = kind.parse(body)
    except (ProtocolError, RequestDataTooBig) as error:
        return refusal(400, "malformed", str(error))
    answer = handler(request, runner, message)
    return answer if isinstance(answer, HttpResponse) else _response(answer)


def too_many(sentence: str, wait: float, code: str = "too_many_requests") -> Refusal:
    """429; `wait` is in seconds."""
    seconds = math.ceil(wait)
    answer = refusal(429, code, f"{sentence} Try again in {seconds} s.")
    answer["Retry-After"] = str(seconds)
    return answer


def refuse_stranger(
    request: HttpRequest, code: str, sentence: str, *, about: tuple[str, str]
) -> HttpResponse:
    """No token, or one that opens nothing: 401, and 429 when an address sends many of them.

    `about` is for the log: a code, and whose token it was or what it looks like; never the token.
    """
    network = quotas.network_of(address_of(request))
    wait = quotas.wrong_tokens.wait_before(network)
    if wait:
        refusals.of_stranger(network, "too_many_wrong_tokens", "more than anybody mistypes")
        return too_many("Too many requests with a wrong token came from your address.", wait)
    refusals.of_stranger(network, *about)
    if knocked := _KNOCKS.get(about[0]):
        knocked.note()
    return refusal(401, code, sentence)


def _refuse_token(request: HttpRequest, row: RunnerToken | None) -> HttpResponse:
    """Say to whoever holds a token that opens nothing (any more) why; `row` is what it found."""
    code, sentence = _why_refused(row)
    token = bearer_token(request.headers.get("Authorization", ""), RUNNER_PREFIX)
    if row is not None:
        about = code, f"a token of runner {row.runner.name} ({row.runner.pk})"
    elif token is not None:
        about = UNKNOWN_TOKEN, f"a runner token with the fingerprint {digest_of(token)[:8]}"
    else:
        about = "no_token", "no runner token was sent"
    return refuse_stranger(request, code, sentence, about=about)


def answer_to(
    request: HttpRequest,
    kind: type[_Request],
    handle: Callable[[_Request], Message | HttpResponse],
) -> HttpResponse:
    """Read the message of a caller who is let in, and send what `handle` makes of it."""
    try:
        message = kind.parse(request.body)
    except (ProtocolError, RequestDataTooBig) as error:
        return refusal(400, "malformed", str(error))
    answer = handle(message)
    return answer if isinstance(answer, HttpResponse) else _response(answer)


def _response(message: Message) -> HttpResponse:
    response = HttpResponse(message.as_bytes(), content_type="application/json")
    # The answer to a claim holds secrets.
    response["Cache-Control"] = "no-store"
    return response


def _authenticated(request: HttpRequest, row: RunnerToken | None) -> Runner | None:
    """The runner whose token the request carries; any of those that are valid at once.

    A worker also says which runner it is. The token of another one is no token for it: whoever
    puts a wrong file in place would otherwise end both workers.
    """
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


def _why_refused(row: RunnerToken | None) -> tuple[str, str]:
    """A code and a sentence."""
    if row is None:
        return "unauthorized", "The runner token is unknown or was revoked."
    if row.runner.removed_at is not None:
        return "removed", f"Runner {row.runner.name} was removed."
    if not row.is_valid(now=timezone.now()):
        return "replaced", f"A newer token has replaced this one of runner {row.runner.name}."
    return "other_runner", f"This is the token of another runner, {row.runner.name}."


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
