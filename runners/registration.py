"""Hosts that add themselves: registration tokens, and `POST /runner/v1/register`.

The host makes its own runner token and sends the SHA-256 of it (docs/adr/ says why). So the token
in clear text never travels, and a request whose answer was lost can be repeated: the digest is the
mark by which Forge knows it again.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from projects.audit.actor import Actor, Way, acting
from projects.audit.entry import Verb
from projects.audit.recording import record, record_saved
from projects.tokens import REGISTRATION_PREFIX, bearer_token, digest_of, new_token
from runners import quotas
from runners.connect import too_old
from runners.endpoint import (
    UNKNOWN_REGISTRATION_TOKEN,
    Refusal,
    address_of,
    answer_to,
    refusal,
    refuse_stranger,
    too_many,
)
from runners.errors import RegistrationRefusedError, RunnerNameTakenError, TokenNotNewError
from runners.models import RegistrationToken, Runner, RunnerToken
from runners.operations import add_runner, tags_named
from runners.refusals import refusals
from runners.worker.protocol import OLDEST_PROTOCOL_VERSION, RegisterReply, RegisterRequest

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from projects.models import Project

logger = logging.getLogger(__name__)

LONGEST_LIFE = timedelta(days=365)
# Hosts of one image that start in the same instant all want the same name.
NAME_TRIES = 50
_LONGEST_NAME = 60
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9.-]+")


@dataclass(frozen=True)
class NewRegistrationToken:
    """A registration token's row and its clear text, which exists only here."""

    row: RegistrationToken
    token: str = field(repr=False)


def create_registration_token(
    *,
    project: Project,
    name: str,
    tags: Sequence[str],
    concurrency: int,
    takes_untagged: bool,
    max_uses: int,
    expires_at: datetime,
    by: User,
    now: datetime,
) -> NewRegistrationToken:
    """A new token with which hosts add themselves to `project`. Raises ValidationError."""
    if not now < expires_at <= now + LONGEST_LIFE:
        sentence = f"It has to end within {LONGEST_LIFE.days} days from now."
        raise ValidationError({"expires_at": sentence})
    token = new_token(REGISTRATION_PREFIX)
    row = RegistrationToken(
        project=project,
        name=name,
        digest=digest_of(token),
        concurrency=concurrency,
        takes_untagged=takes_untagged,
        max_uses=max_uses,
        created_at=now,
        created_by=by,
        expires_at=expires_at,
    )
    row.clean_fields()
    with transaction.atomic():
        row.save()
        row.tags.set(tags_named(project=project, names=tags))
        record_saved(row, None)
    return NewRegistrationToken(row, token)


def revoke_registration_token(*, token: RegistrationToken, now: datetime) -> bool:
    """No further host can use it; False if it was revoked before. Its runners stay."""
    with transaction.atomic():
        is_revoked = token.revoke(now=now)
        if is_revoked:
            record(Verb.REVOKED, token)
    return is_revoked


def register_runner(*, token: RegistrationToken, request: RegisterRequest, now: datetime) -> Runner:
    """The runner of the host that sent `request`: a new one, or its own if it asks again.

    Raises RegistrationRefusedError, TokenNotNewError, RunnerNameTakenError, and ValidationError
    for a name that is not allowed.
    """
    wanted = request.name or name_from(request.host_name)
    for _ in range(NAME_TRIES):
        found = _registered_before(token, request.digest)
        if found is not None:
            return found
        name = wanted if request.name else free_name(token.project, wanted)
        try:
            return _register(token, name, request.digest, now=now)
        except IntegrityError:
            # The name, or this very digest, was taken in this moment: look again.
            if request.name and not RunnerToken.objects.filter(digest=request.digest).exists():
                break
    raise RunnerNameTakenError(wanted)


def _registered_before(token: RegistrationToken, digest: str) -> Runner | None:
    """The runner that an earlier request with this digest made. Raises TokenNotNewError."""
    known = RunnerToken.objects.filter(digest=digest).select_related("runner__project").first()
    if known is None:
        return None
    is_its_own = known.runner.registered_with_id == token.pk
    if is_its_own and known.expires_at is None and known.runner.removed_at is None:
        return known.runner
    raise TokenNotNewError


def _register(token: RegistrationToken, name: str, digest: str, *, now: datetime) -> Runner:
    """Take one use and make the runner, or neither. Raises as `register_runner`."""
    runner = Runner(
        project=token.project,
        name=name,
        concurrency=token.concurrency,
        takes_untagged=token.takes_untagged,
        created_by=token.created_by,
        registered_with=token,
    )
    with transaction.atomic():
        if not token.take_use(now=now):
            token.refresh_from_db()
            raise RegistrationRefusedError(token, token.status_at(now))
        add_runner(runner=runner, tags=list(token.tags.all()), digest=digest, now=now)
    return runner


def name_from(host_name: str) -> str:
    """A runner's name from a host's: `Web_1.example.net` becomes `web-1.example.net`."""
    name = _NOT_IN_A_NAME.sub("-", host_name.lower())[:_LONGEST_NAME].strip("-.")
    return name or "runner"


def free_name(project: Project, wanted: str) -> str:
    """`wanted`, or with -2, -3, … behind it if the project has such a runner."""
    rows = Runner.objects.present().filter(project=project, name__istartswith=wanted[:40])
    taken = {name.lower() for name in rows.values_list("name", flat=True)}
    number, name = 1, wanted
    while name in taken:
        number += 1
        suffix = f"-{number}"
        name = wanted[: _LONGEST_NAME - len(suffix)] + suffix
    return name


@csrf_exempt  # no cookie is looked at, only the token
@require_POST
def register(request: HttpRequest) -> HttpResponse:
    header = request.headers.get("Authorization", "")
    clear = bearer_token(header, REGISTRATION_PREFIX)
    token = RegistrationToken.objects.find(clear) if clear else None
    if token is None:
        sentence = "The registration token is unknown."
        return refuse_stranger(request, "unauthorized", sentence, about=_about(clear))
    address = address_of(request)
    network = quotas.network_of(address)
    wait = quotas.requests.wait_before((network, RegisterRequest))
    if wait:
        answer: HttpResponse = too_many("Too many registrations came from your address.", wait)
    else:
        answer = answer_to(request, RegisterRequest, partial(_take_registration, token, address))
    if isinstance(answer, Refusal):
        of_token = f"registration token {token.name} ({token.pk}) of project {token.project}"
        refusals.of_stranger(network, answer.code, f"{of_token}: {answer.sentence}")
    return answer


def _about(unknown: str | None) -> tuple[str, str]:
    """For the log: what came instead of a registration token that is known; never the token."""
    if unknown is None:
        return "no_token", "no registration token was sent"
    fingerprint = digest_of(unknown)[:8]
    return UNKNOWN_REGISTRATION_TOKEN, f"one with the fingerprint {fingerprint}"


def _take_registration(
    token: RegistrationToken, address: str | None, message: RegisterRequest
) -> RegisterReply | HttpResponse:
    if message.protocol < OLDEST_PROTOCOL_VERSION:
        return too_old(message.version)
    host = Actor(Way.RUNNER, message.host_name or "a host", means=token.name, address=address)
    try:
        with acting(lambda: host):
            runner = register_runner(token=token, request=message, now=timezone.now())
    except RegistrationRefusedError as error:
        return refusal(403, error.status.value, str(error))
    except TokenNotNewError as error:
        return refusal(409, "token_not_new", str(error))
    except RunnerNameTakenError as error:
        return refusal(409, "name_taken", str(error))
    except ValidationError as error:
        return refusal(400, "malformed", " ".join(error.messages))
    logger.info("runner %s registered with token %s", runner.name, token.pk)
    return RegisterReply(runner.pk, runner.name, token.project.name)
