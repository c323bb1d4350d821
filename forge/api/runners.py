"""Runners: list, register, read, change, remove."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db.models import Count, OuterRef, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.generics import ListAPIView
from rest_framework.response import Response

from forge.api.base import ApiView, found
from forge.api.errors import ERRORS
from forge.api.parsing import NothingSerializer, StrictMixin
from forge.api.tags import TagNames
from forge.api.versions import IF_MATCH, OUTDATED, version_wanted, with_version
from projects.permissions import Action
from runners.models import Runner
from runners.operations import change_runner, create_runner, lift_quarantine
from runners.status import RunnerStatus
from tasks.models import Task
from tasks.operations import retire_runner

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.db.models import QuerySet
    from rest_framework.request import Request


class RunnerSerializer(StrictMixin, serializers.ModelSerializer[Runner]):
    status = serializers.SerializerMethodField()
    tags = TagNames(required=False)
    quarantined_until = serializers.SerializerMethodField(
        help_text="Until then the broker does not let it in. Null while it does."
    )
    quarantine_reason = serializers.SerializerMethodField(help_text="What it did; or empty.")
    trouble = serializers.CharField(
        read_only=True,
        help_text="What its worker last said that keeps it from taking tasks; or empty.",
    )
    paused_at = serializers.SerializerMethodField(help_text="Null while it is not paused.")
    paused_by = serializers.SerializerMethodField(
        help_text="Who paused it; null while it is not paused, or if that user was deleted."
    )
    paused_until = serializers.SerializerMethodField(
        help_text="When it resumes by itself; null if it is not paused, or until it is resumed."
    )
    pause_reason = serializers.SerializerMethodField(help_text="Why it is paused; or empty.")
    token_created_at = serializers.SerializerMethodField(help_text="When its token was made.")
    older_token_expires_at = serializers.SerializerMethodField(
        help_text="Until when a token that was replaced still works; null if none does."
    )

    class Meta:
        model = Runner
        fields: tuple[str, ...] = (
            "id",
            "project",
            "name",
            "status",
            "tags",
            "last_heartbeat_at",
            "version",
            "concurrency",
            "takes_untagged",
            "quarantined_until",
            "quarantine_reason",
            "trouble",
            "paused_at",
            "paused_by",
            "paused_until",
            "pause_reason",
            "token_created_at",
            "older_token_expires_at",
        )
        read_only_fields = ("id", "project", "last_heartbeat_at", "version")
        validators: tuple[()] = ()

    def get_status(self, runner: Runner) -> RunnerStatus:
        running = getattr(runner, "running", 0)
        return runner.status_at(timezone.now(), running=running)

    def get_quarantined_until(self, runner: Runner) -> datetime | None:
        is_out = runner.is_quarantined(now=timezone.now())
        return runner.quarantined_until if is_out else None

    def get_quarantine_reason(self, runner: Runner) -> str:
        return runner.quarantine_reason if runner.is_quarantined(now=timezone.now()) else ""

    def get_paused_at(self, runner: Runner) -> datetime | None:
        return runner.paused_at if runner.is_paused(now=timezone.now()) else None

    def get_paused_by(self, runner: Runner) -> str | None:
        by = runner.paused_by if runner.is_paused(now=timezone.now()) else None
        return by.get_username() if by else None

    def get_paused_until(self, runner: Runner) -> datetime | None:
        return runner.paused_until if runner.is_paused(now=timezone.now()) else None

    def get_pause_reason(self, runner: Runner) -> str:
        return runner.pause_reason if runner.is_paused(now=timezone.now()) else ""

    def get_token_created_at(self, runner: Runner) -> datetime | None:
        token = runner.current_token
        return token.created_at if token else None

    def get_older_token_expires_at(self, runner: Runner) -> datetime | None:
        older = runner.older_tokens(now=timezone.now())
        return older[0].expires_at if older else None


class RunnerChangeSerializer(StrictMixin, serializers.ModelSerializer[Runner]):
    """What may be changed of a runner: not its name, which its worker goes by."""

    tags = TagNames(required=False)

    class Meta:
        model = Runner
        fields = ("tags", "concurrency", "takes_untagged")


class NewRunnerSerializer(RunnerSerializer):
    """The answer that creates a token: the only one that ever holds it."""

    token = serializers.CharField(read_only=True, help_text="Shown once; Forge keeps a digest.")

    class Meta(RunnerSerializer.Meta):
        fields = (*RunnerSerializer.Meta.fields, "token")


def runners_of(user: User) -> QuerySet[Runner]:
    """The runners that `user` may see, each with `running`, the number of tasks it holds."""
    return with_running(Runner.objects.for_user(user))


def with_running(runners: QuerySet[Runner]) -> QuerySet[Runner]:
    """These, with all that is told of each."""
    held = Task.objects.held().filter(runner=OuterRef("pk")).order_by().values("runner")
    count = Subquery(held.annotate(number=Count("pk")).values("number"))
    rows = runners.annotate(running=Coalesce(count, 0))
    return rows.select_related("project", "paused_by").prefetch_related("tags", "tokens")


class RunnerList(ApiView, ListAPIView[Runner]):
    serializer_class = RunnerSerializer

    def get_queryset(self) -> QuerySet[Runner]:
        return runners_of(self.user).filter(project_id=self.kwargs["pk"])

    @extend_schema(operation_id="list_runners", responses={200: RunnerSerializer, **ERRORS})
    def get(self, request: Request, pk: int) -> Response:
        """The project's runners, removed ones aside."""
        self.project(pk, Action.PROJECT_VIEW)
        return self.list(request)

    @extend_schema(
        operation_id="create_runner",
        request=RunnerSerializer,
        responses={201: NewRunnerSerializer, **ERRORS},
    )
    def post(self, request: Request, pk: int) -> Response:
        """Registers a runner. The answer carries its token, once."""
        project = self.project(pk, Action.RUNNER_CHANGE)
        given = {**_DEFAULTS, **self.checked(RunnerSerializer).validated_data}
        new = create_runner(project=project, by=self.user, now=timezone.now(), **given)
        body = {**RunnerSerializer(new.runner).data, "token": new.token}
        return Response(body, status=status.HTTP_201_CREATED)


_DEFAULTS: dict[str, Any] = {
    "tags": (),
    "concurrency": Runner._meta.get_field("concurrency").default,
    "takes_untagged": Runner._meta.get_field("takes_untagged").default,
}


class RunnerView(ApiView):
    serializer_class = RunnerSerializer

    def runner(self, pk: int, action: Action) -> Runner:
        """The runner if the user may do `action` to it."""
        runner = found(runners_of(self.user), pk)
        self.demand(runner.project, action)
        return runner


class RunnerDetail(RunnerView):
    @extend_schema(operation_id="read_runner", responses={200: RunnerSerializer, **ERRORS})
    def get(self, request: Request, pk: int) -> Response:
        """One runner, with its status at this moment."""
        return with_version(self.runner(pk, Action.PROJECT_VIEW), RunnerSerializer)

    @extend_schema(
        operation_id="change_runner",
        parameters=[IF_MATCH],
        request=RunnerChangeSerializer(partial=True),
        responses={200: RunnerSerializer, **ERRORS, **OUTDATED},
    )
    def patch(self, request: Request, pk: int) -> Response:
        """Changes the fields that the body names. Its worker obeys at once; what runs goes on."""
        runner = self.runner(pk, Action.RUNNER_CHANGE)
        changes = dict(self.checked(RunnerChangeSerializer, runner).validated_data)
        tags, version = changes.pop("tags", None), version_wanted(request)
        change_runner(runner=runner, changes=changes, tags=tags, version=version)
        return with_version(found(runners_of(self.user), pk), RunnerSerializer)

    @extend_schema(operation_id="remove_runner", responses={204: None, **ERRORS})
    def delete(self, request: Request, pk: int) -> Response:
        """Removes the runner. Its token and its broker access end at once, and so do its tasks."""
        runner = self.runner(pk, Action.RUNNER_CHANGE)
        retire_runner(runner=runner, by=self.user, now=timezone.now())
        return Response(status=status.HTTP_204_NO_CONTENT)


class RunnerLift(RunnerView):
    @extend_schema(
        operation_id="lift_quarantine", request=None, responses={200: RunnerSerializer, **ERRORS}
    )
    def post(self, request: Request, pk: int) -> Response:
        """Lets a runner in quarantine back to the broker. Changes nothing for one that is in."""
        runner = self.runner(pk, Action.RUNNER_CHANGE)
        self.checked(NothingSerializer)
        lift_quarantine(runner=runner, by=self.user, now=timezone.now())
        return Response(RunnerSerializer(found(runners_of(self.user), pk)).data)
