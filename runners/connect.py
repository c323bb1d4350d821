"""`POST /runner/v1/connect` and `verify`: a worker is told all that it needs, and begins."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from runners.broker import project_prefix, runner_url
from runners.endpoint import address_of, refusal, runner_endpoint, seconds_left
from runners.errors import RunnerInUseError, RunnerQuarantinedError, RunnerRemovedError
from runners.models import Runner
from runners.operations import connect_runner
from runners.worker.protocol import (
    OLDEST_PROTOCOL_VERSION,
    PROTOCOL_VERSION,
    ConnectReply,
    ConnectRequest,
    VerifyReply,
    VerifyRequest,
)


@runner_endpoint(ConnectRequest)
def connect(
    request: HttpRequest, runner: Runner, message: ConnectRequest
) -> ConnectReply | HttpResponse:
    if message.protocol < OLDEST_PROTOCOL_VERSION:
        return too_old(message.version)
    try:
        connect_runner(
            runner=runner, request=message, address=address_of(request), now=timezone.now()
        )
    except RunnerQuarantinedError as error:
        return refusal(403, "quarantined", str(error))
    except RunnerInUseError as error:
        return refusal(409, "in_use", str(error))
    except RunnerRemovedError as error:
        return refusal(401, "removed", str(error))
    return welcome(runner)


def too_old(version: str) -> HttpResponse:
    return refusal(
        426,
        "protocol_too_old",
        f"This runner's software ({version}) is too old for this Forge. "
        f"Install the current one from {settings.FORGE_URL} and start it again.",
    )


@runner_endpoint(VerifyRequest)
def verify(
    request: HttpRequest, runner: Runner, message: VerifyRequest
) -> VerifyReply | HttpResponse:
    """What `connect` would say, without a session: a worker that runs is not disturbed."""
    if message.protocol < OLDEST_PROTOCOL_VERSION:
        return too_old(message.version)
    return VerifyReply(
        welcome=welcome(runner),
        identity=runner.identity.hex,
        protocol=PROTOCOL_VERSION,
        oldest_protocol=OLDEST_PROTOCOL_VERSION,
        token_seconds=seconds_left(request, now=timezone.now()),
    )


def welcome(runner: Runner) -> ConnectReply:
    """The settings of one runner's worker."""
    return ConnectReply(
        runner=runner.pk,
        name=runner.name,
        node_name=runner.node_name,
        project=runner.project_id,
        project_name=runner.project.name,
        broker_url=runner_url(runner),
        key_prefix=project_prefix(runner.project_id),
        queues=queue_names(runner),
        concurrency=runner.concurrency,
        heartbeat_seconds=settings.FORGE_HEARTBEAT_SECONDS,
    )


def queue_names(runner: Runner) -> tuple[str, ...]:
    """What the worker listens to. Its own name stands in when no queue fits: Celery needs one.

    Nothing fits while the runner is paused, or drained.
    """
    if runner.is_paused(now=timezone.now()) or runner.drain_order:
        return (runner.account,)
    names = tuple(runner.queues().values_list("name", flat=True))
    return names or (runner.account,)
