"""A runner's token: replaced by a new one, and the end of those that were replaced."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from forge.api.errors import ERRORS
from forge.api.parsing import NothingSerializer, StrictMixin
from forge.api.runners import NewRunnerSerializer, RunnerSerializer, RunnerView, runners_of
from projects.permissions import Action
from runners.operations import LONGEST_OVERLAP, end_older_tokens, rotate_token

if TYPE_CHECKING:
    from rest_framework.request import Request


class RotationSerializer(StrictMixin, serializers.Serializer[Any]):
    overlap_seconds = serializers.IntegerField(
        min_value=0,
        max_value=int(LONGEST_OVERLAP.total_seconds()),
        help_text="How long the tokens until now go on working. 0 ends them at once: the worker, "
        "which has no other, ends and kills what it runs.",
    )


class RunnerRotate(RunnerView):
    @extend_schema(
        operation_id="rotate_runner_token",
        request=RotationSerializer,
        responses={200: NewRunnerSerializer, **ERRORS},
    )
    def post(self, request: Request, pk: int) -> Response:
        """Makes a new token, shown in this answer only; older ones end after the overlap."""
        runner = self.runner(pk, Action.RUNNER_CHANGE)
        given = self.checked(RotationSerializer).validated_data
        overlap = timedelta(seconds=given["overlap_seconds"])
        new = rotate_token(runner=runner, overlap=overlap, by=self.user, now=timezone.now())
        body = RunnerSerializer(runners_of(self.user).get(pk=pk)).data
        return Response({**body, "token": new.token})


class RunnerEndOlderTokens(RunnerView):
    @extend_schema(
        operation_id="end_older_runner_tokens",
        request=NothingSerializer,
        responses={200: RunnerSerializer, **ERRORS},
    )
    def post(self, request: Request, pk: int) -> Response:
        """Ends the overlap now: only the newest token works from here on."""
        runner = self.runner(pk, Action.RUNNER_CHANGE)
        self.checked(NothingSerializer)
        end_older_tokens(runner=runner, now=timezone.now())
        return Response(RunnerSerializer(runners_of(self.user).get(pk=pk)).data)
