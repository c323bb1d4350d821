"""`POST /runner/v1/unregister`: a host takes its runner away, and the runner's tasks end."""

from __future__ import annotations

import logging

from django.http import HttpRequest
from django.utils import timezone

from runners.endpoint import runner_endpoint
from runners.models import Runner
from runners.worker.protocol import UnregisterReply, UnregisterRequest
from tasks.operations import retire_runner

logger = logging.getLogger(__name__)


@runner_endpoint(UnregisterRequest)
def unregister(request: HttpRequest, runner: Runner, message: UnregisterRequest) -> UnregisterReply:
    ended = retire_runner(runner=runner, by=None, now=timezone.now())
    logger.info("runner %s was unregistered by host %r", runner.name, message.host_name)
    return UnregisterReply(runner.name, ended)
