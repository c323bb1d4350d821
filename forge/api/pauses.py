"""Pause a runner, resume it, drain it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from forge.api.base import found
from forge.api.errors import ERRORS
from forge.api.parsing import MomentField, NothingSerializer, StrictMixin
from forge.api.runners import RunnerSerializer, RunnerView, runners_of
from projects.permissions import Action
from runners.operations import drain_runner, pause_runner, resume_runner
from runners.pausing import PAUSE_REASON_LENGTH

if TYPE_CHECKING:
    from rest_framework.request import Request


class PauseSerializer(StrictMixin):
    reason = serializers.CharField(
        max_length=PAUSE_REASON_LENGTH, help_text="One line, for those whose tasks wait."
    )
    until = MomentField(
        required=False,
        allow_null=True,
        default=None,
        help_text="When it resumes by itself, within a year. Null: until it is resumed.",
    )


class DrainSerializer(StrictMixin):
    reason = serializers.CharField(
        max_length=PAUSE_REASON_LENGTH, help_text="One line, for those whose tasks wait."
    )
    stays_paused = serializers.BooleanField(
        default=True,
        help_text="Pause it too: a worker that is started again takes nothing until it is resumed.",
    )


class RunnerPause(RunnerView):
    @extend_schema(
        operation_id="pause_runner",
        request=PauseSerializer,
        responses={200: RunnerSerializer, **ERRORS},
    )
    def post(self, request: Request, pk: int) -> Response:
        """Gives the runner nothing new. What it runs goes on. Again: another reason or time."""
        runner = self.runner(pk, Action.RUNNER_CHANGE)
        given = self.checked(PauseSerializer).validated_data
        pause_runner(runner=runner, by=self.user, now=timezone.now(), **given)
        return Response(RunnerSerializer(found(runners_of(self.user), pk)).data)


class RunnerResume(RunnerView):
    @extend_schema(
        operation_id="resume_runner", request=None, responses={200: RunnerSerializer, **ERRORS}
    )
    def post(self, request: Request, pk: int) -> Response:
        """Lets the runner take tasks again: it is no longer paused, nor drained.

        Its worker goes on if it still has a task to finish; one that was told to end already ends.
        """
        runner = self.runner(pk, Action.RUNNER_CHANGE)
        self.checked(NothingSerializer)
        resume_runner(runner=runner, by=self.user, now=timezone.now())
        return Response(RunnerSerializer(found(runners_of(self.user), pk)).data)


class RunnerDrain(RunnerView):
    @extend_schema(
        operation_id="drain_runner",
        request=DrainSerializer,
        responses={200: RunnerSerializer, **ERRORS},
    )
    def post(self, request: Request, pk: int) -> Response:
        """Lets its worker take nothing new, finish its tasks, and end. 409 if none is connected.

        `resume` takes that back for as long as it has a task to finish.
        """
        runner = self.runner(pk, Action.RUNNER_CHANGE)
        given = self.checked(DrainSerializer).validated_data
        drain_runner(runner=runner, by=self.user, now=timezone.now(), **given)
        return Response(RunnerSerializer(found(runners_of(self.user), pk)).data)
