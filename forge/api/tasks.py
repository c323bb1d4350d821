"""Tasks: list, run, read, stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.exceptions import ValidationError
from rest_framework.generics import ListAPIView
from rest_framework.response import Response

from forge.api.base import ApiView, found
from forge.api.errors import ERRORS
from forge.api.long_lists import LongPages
from forge.api.parsing import NothingSerializer, StrictMixin, whole_number
from projects.permissions import Action
from projects.single import single
from tasks.attempts import attempts_of
from tasks.lifecycle import TaskState
from tasks.models import Task, TaskAttempt, TaskTemplate
from tasks.operations import force_stop_task, run_template, stop_task
from tasks.waiting import why_waiting

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from rest_framework.request import Request

    from projects.models import Project


class AttemptSerializer(serializers.ModelSerializer[TaskAttempt]):
    class Meta:
        model = TaskAttempt
        fields = (
            "number",
            "runner",
            "state",
            "reason",
            "claimed_at",
            "started_at",
            "ended_at",
            "log_bytes",
            "log_sha256",
            "log_complete",
        )
        read_only_fields = fields


class TaskSerializer(serializers.ModelSerializer[Task]):
    sources = serializers.JSONField(
        read_only=True,
        help_text="The variable groups and access keys that it was queued with, without values.",
    )

    stop_steps = serializers.JSONField(
        read_only=True,
        help_text="Signals in order, each with the seconds until the next; then KILL.",
    )
    attempts = serializers.SerializerMethodField(
        help_text="All that were claimed, the latest last. That one ends when the task does."
    )
    log_written_bytes = serializers.IntegerField(
        source="written_bytes",
        read_only=True,
        help_text="What the process wrote, with what is left out of the log.",
    )

    class Meta:
        model = Task
        fields: tuple[str, ...] = (
            "id",
            "template",
            "state",
            "reason",
            "exit_code",
            "attempt",
            "runner",
            "sources",
            "created_at",
            "queued_at",
            "claimed_at",
            "started_at",
            "finished_at",
            "log_bytes",
            "log_sha256",
            "log_complete",
            "log_written_bytes",
            "log_gap_offset",
            "log_gap_bytes",
            "log_problem",
            "rerun_of",
            "stop_requested_at",
            "stop_reason",
            "force_requested_at",
            "lease_expires_at",
            "unreachable_at",
            "wait_ends_at",
            "lost_runner_policy",
            "lost_runner_wait_seconds",
            "max_attempts",
            "stop_steps",
            "attempts",
        )
        read_only_fields = fields

    @extend_schema_field(AttemptSerializer(many=True))
    def get_attempts(self, task: Task) -> Any:
        return AttemptSerializer(attempts_of(task), many=True).data


class OneTaskSerializer(TaskSerializer):
    """One task by itself: what it waits for is asked of several tables."""

    waiting_for = serializers.SerializerMethodField(
        help_text="What keeps a queued task from starting, in one sentence; empty for others."
    )

    class Meta(TaskSerializer.Meta):
        fields = (*TaskSerializer.Meta.fields, "waiting_for")
        read_only_fields = fields

    def get_waiting_for(self, task: Task) -> str:
        return why_waiting(task, timezone.now())


class NewTaskSerializer(StrictMixin):
    template = serializers.IntegerField(help_text="The id of a template of this project.")


_STATES = OpenApiParameter(
    "state", enum=TaskState.values, many=True, description="Only these states; may be repeated."
)
_BEFORE = OpenApiParameter("before", int, description="Only older tasks than this one.")
_TEMPLATE = OpenApiParameter("template", int, description="Only tasks of this template.")


class TaskList(ApiView, ListAPIView[Task]):
    serializer_class = TaskSerializer
    pagination_class = LongPages

    def get_queryset(self) -> QuerySet[Task]:
        rows = Task.objects.for_user(self.user).without_scripts()
        found = _filtered(rows.filter(project_id=self.kwargs["pk"]), self.request)
        return found.prefetch_related("earlier_attempts")

    @extend_schema(
        operation_id="list_tasks",
        parameters=[_STATES, _TEMPLATE, _BEFORE],
        responses={200: TaskSerializer, **ERRORS},
    )
    def get(self, request: Request, pk: int) -> Response:
        """The project's tasks, the newest first."""
        self.project(pk, Action.PROJECT_VIEW)
        return self.list(request)

    @extend_schema(
        operation_id="run_template",
        request=NewTaskSerializer,
        responses={201: TaskSerializer, **ERRORS},
    )
    def post(self, request: Request, pk: int) -> Response:
        """Queues one run of a template."""
        project = self.project(pk, Action.TASK_RUN)
        given = self.checked(NewTaskSerializer).validated_data
        template = self._template(project, given["template"])
        task = run_template(template=template, by=self.user, now=timezone.now())
        return Response(TaskSerializer(task).data, status=status.HTTP_201_CREATED)

    def _template(self, project: Project, pk: int) -> TaskTemplate:
        rows = TaskTemplate.objects.for_user(self.user)
        template = single(rows.filter(project=project, pk=pk).select_related("queue"))
        if template is None:
            raise ValidationError({"template": "This project has no template with this id."})
        # Fetched a moment ago; without this line the database would be asked again.
        template.project = project
        return template


def _filtered(rows: QuerySet[Task], request: Request) -> QuerySet[Task]:
    """Apply `?state=` and `?template=`. Raises ValidationError for what no task can match."""
    states = request.query_params.getlist("state")
    if not set(states) <= set(TaskState.values):
        possible = ", ".join(TaskState.values)
        raise ValidationError({"state": f"There is no such state. Possible: {possible}."})
    if states:
        rows = rows.filter(state__in=sorted(set(states)))
    template = request.query_params.get("template")
    if template is None:
        return rows
    return rows.filter(template_id=whole_number(template, "template"))


class TaskView(ApiView):
    serializer_class = TaskSerializer

    def task(self, pk: int, action: Action) -> Task:
        rows = Task.objects.for_user(self.user).select_related("project").without_scripts()
        task = found(rows, pk)
        self.demand(task.project, action)
        return task


class TaskDetail(TaskView):
    @extend_schema(operation_id="read_task", responses={200: OneTaskSerializer, **ERRORS})
    def get(self, request: Request, pk: int) -> Response:
        """One task: its state, how it ended or why it waits, and what is known of its log."""
        return Response(OneTaskSerializer(self.task(pk, Action.PROJECT_VIEW)).data)


class TaskStop(TaskView):
    @extend_schema(
        operation_id="stop_task", request=None, responses={200: TaskSerializer, **ERRORS}
    )
    def post(self, request: Request, pk: int) -> Response:
        """Stops a task: at once if it waits, otherwise by its runner and its template's steps.

        An unreachable one is stopped as soon as its runner is heard again.
        """
        task = self.task(pk, Action.TASK_STOP)
        self.checked(NothingSerializer)
        stop_task(task=task, by=self.user, now=timezone.now())
        return Response(TaskSerializer(task).data)


class TaskForceStop(TaskView):
    @extend_schema(
        operation_id="force_stop_task", request=None, responses={200: TaskSerializer, **ERRORS}
    )
    def post(self, request: Request, pk: int) -> Response:
        """Kills a task's processes, without time to clean up; ends the wait for a lost runner."""
        task = self.task(pk, Action.TASK_STOP)
        self.checked(NothingSerializer)
        force_stop_task(task=task, by=self.user, now=timezone.now())
        return Response(TaskSerializer(task).data)
