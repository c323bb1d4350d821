"""Templates, tasks and their logs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.validators import MaxLengthValidator, MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower

from projects.models import AccessKey, Project, VariableGroup, is_one_line
from projects.variables import is_environment, is_shared_variable_name
from runners.models import Queue, Runner, Tag
from tasks.lifecycle import HELD, TERMINAL, TaskState, predecessors
from tasks.querysets import TaskQuerySet, TaskTemplateQuerySet

MAXIMUM_SCRIPT_CHARACTERS = 200_000
MAXIMUM_TIMEOUT_SECONDS = 7 * 24 * 3600
REASON_LENGTH = 500


class App(models.TextChoices):
    """What carries out the script."""

    BASH = "bash", "Bash"
    PYTHON = "python", "Python"


class TaskTemplate(models.Model):
    """What to run, with what, where."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="templates")
    name = models.CharField(max_length=80, validators=[is_one_line])
    description = models.CharField(max_length=200, blank=True, validators=[is_one_line])
    app = models.CharField(max_length=20, choices=App.choices, default=App.BASH)
    script = models.TextField(validators=[MaxLengthValidator(MAXIMUM_SCRIPT_CHARACTERS)])
    timeout_seconds = models.PositiveIntegerField(
        default=3600,
        validators=[MinValueValidator(1), MaxValueValidator(MAXIMUM_TIMEOUT_SECONDS)],
    )
    tags = models.ManyToManyField(Tag, related_name="templates", blank=True)
    # Where its tasks wait: follows from the tags, kept here because every run needs it.
    queue = models.ForeignKey(
        Queue, on_delete=models.PROTECT, related_name="templates", editable=False
    )
    environment = models.JSONField(default=dict, blank=True, validators=[is_environment])
    variable_groups = models.ManyToManyField(VariableGroup, related_name="templates", blank=True)
    access_keys = models.ManyToManyField(
        AccessKey, through="TemplateAccessKey", related_name="templates", blank=True
    )
    # What a task notes of the two above (`tasks.sources`), kept here because every run needs it.
    sources = models.JSONField(default=dict, editable=False)
    allow_parallel = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    removed_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = TaskTemplateQuerySet.as_manager()

    class Meta:
        ordering = ("project", "name")
        constraints = (
            models.UniqueConstraint(
                "project", Lower("name"), condition=Q(removed_at=None), name="template_name_unique"
            ),
            models.CheckConstraint(condition=Q(app__in=App.values), name="template_app_known"),
            models.CheckConstraint(
                condition=Q(timeout_seconds__gte=1, timeout_seconds__lte=MAXIMUM_TIMEOUT_SECONDS),
                name="template_timeout_in_range",
            ),
        )

    def __str__(self) -> str:
        return self.name


class TemplateAccessKey(models.Model):
    """An access key that a template's process finds, and the name under which it does."""

    template = models.ForeignKey(
        TaskTemplate, on_delete=models.CASCADE, related_name="access_key_uses"
    )
    access_key = models.ForeignKey(AccessKey, on_delete=models.CASCADE, related_name="uses")
    variable = models.CharField(max_length=80, validators=[is_shared_variable_name])

    class Meta:
        ordering = ("template", "variable")
        constraints = (
            models.UniqueConstraint(
                fields=("template", "access_key"), name="template_uses_key_once"
            ),
            models.UniqueConstraint(
                fields=("template", "variable"), name="template_key_variable_unique"
            ),
        )

    def __str__(self) -> str:
        return f"{self.access_key} as {self.variable}"


class Task(models.Model):
    """One run of a template, with a copy of what the template said when it was asked for.

    State changes are the methods below. Each is one conditional update: it returns False,
    and has changed nothing, when the row was not in a state that allows the change or is
    not held by that runner in that attempt (the fence).
    """

    State = TaskState

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="tasks")
    template = models.ForeignKey(TaskTemplate, on_delete=models.PROTECT, related_name="tasks")
    queue = models.ForeignKey(Queue, on_delete=models.PROTECT, related_name="tasks")
    rerun_of = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, blank=True, related_name="reruns"
    )
    app = models.CharField(max_length=20, choices=App.choices)
    script = models.TextField()
    environment = models.JSONField(default=dict)
    # Which variable groups and access keys it is given, without values (`tasks.sources`).
    sources = models.JSONField(default=dict, editable=False)
    timeout_seconds = models.PositiveIntegerField()
    is_exclusive = models.BooleanField()

    state = models.CharField(max_length=20, choices=TaskState.choices, default=TaskState.QUEUED)
    reason = models.CharField(max_length=REASON_LENGTH, blank=True)
    exit_code = models.IntegerField(null=True)
    attempt = models.PositiveIntegerField(default=1)
    runner = models.ForeignKey(Runner, on_delete=models.PROTECT, null=True, related_name="tasks")
    nonce = models.CharField(max_length=64, blank=True)

    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    created_at = models.DateTimeField()
    hinted_at = models.DateTimeField(null=True)
    claimed_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    stop_requested_at = models.DateTimeField(null=True)
    stop_reason = models.CharField(max_length=REASON_LENGTH, blank=True)
    unreachable_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    log_bytes = models.BigIntegerField(default=0)
    log_sha256 = models.CharField(max_length=64, blank=True)
    log_complete = models.BooleanField(default=False)
    watched_until = models.DateTimeField(null=True)

    objects = TaskQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        indexes = (
            models.Index(fields=("project", "-id"), name="task_by_project"),
            models.Index(fields=("project", "state", "-id"), name="task_by_state"),
            models.Index(
                fields=("queue", "id"), condition=Q(state=TaskState.QUEUED), name="task_queued"
            ),
            # The publisher's: what is out, and what may go out without a look at its template.
            models.Index(
                fields=("queue", "id"),
                condition=Q(state=TaskState.QUEUED, hinted_at__isnull=False),
                name="task_hinted",
            ),
            models.Index(
                fields=("queue", "id"),
                condition=Q(state=TaskState.QUEUED, hinted_at=None, is_exclusive=False),
                name="task_to_hint",
            ),
            models.Index(fields=("runner",), condition=Q(state__in=sorted(HELD)), name="task_held"),
            models.Index(
                fields=("template", "id"),
                condition=Q(state__in=sorted(HELD | {TaskState.QUEUED})),
                name="task_unfinished_of_template",
            ),
        )
        constraints = (
            models.CheckConstraint(
                condition=Q(state__in=TaskState.values), name="task_state_known"
            ),
            models.CheckConstraint(
                condition=~Q(state__in=sorted(HELD))
                | Q(runner__isnull=False, claimed_at__isnull=False) & ~Q(nonce=""),
                name="task_held_has_runner",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=sorted(TERMINAL))
                | Q(finished_at__isnull=False) & ~Q(reason=""),
                name="task_finished_has_reason",
            ),
            models.CheckConstraint(
                condition=Q(state__in=sorted(TERMINAL)) | Q(finished_at=None),
                name="task_unfinished_has_no_end",
            ),
            models.UniqueConstraint(
                fields=("template",),
                condition=Q(is_exclusive=True, state__in=sorted(HELD)),
                name="task_exclusive_runs_alone",
            ),
        )

    def __str__(self) -> str:
        return f"#{self.pk} {self.template}"

    @property
    def is_finished(self) -> bool:
        return self.state in TERMINAL

    def _move(self, to: TaskState, *, fence: Q | None = None, **changes: Any) -> bool:
        """One conditional update to state `to`; on success this object shows it too."""
        rows = type(self).objects.filter(pk=self.pk, state__in=sorted(predecessors(to)))
        if fence is not None:
            rows = rows.filter(fence)
        if rows.update(state=to, **changes) == 0:
            return False
        for name, content in {"state": to, **changes}.items():
            setattr(self, name, content)
        return True

    def claim(self, *, runner: Runner, attempt: int, nonce: str, now: datetime) -> bool:
        """`queued -> starting` for this runner.

        Raises `django.db.IntegrityError` when another task of an exclusive template is held.
        """
        return self._move(
            TaskState.STARTING,
            fence=Q(attempt=attempt, project_id=runner.project_id),
            runner=runner,
            nonce=nonce,
            claimed_at=now,
        )

    def start(self, *, runner: Runner, attempt: int, now: datetime) -> bool:
        """`starting -> running`: the runner says that the process exists."""
        fence = Q(attempt=attempt, runner=runner, state=TaskState.STARTING)
        return self._move(TaskState.RUNNING, fence=fence, started_at=now)

    def come_back(self, *, runner: Runner, attempt: int) -> bool:
        """`unreachable -> running | stopping`: the runner is heard again and still has it."""
        back = TaskState.STOPPING if self.stop_requested_at else TaskState.RUNNING
        fence = Q(attempt=attempt, runner=runner, state=TaskState.UNREACHABLE)
        return self._move(back, fence=fence, unreachable_at=None)

    def stop_before_start(self, *, reason: str, now: datetime) -> bool:
        """`queued | awaiting_approval -> stopped`: nothing was started."""
        waiting = Q(state__in=(TaskState.QUEUED, TaskState.AWAITING_APPROVAL))
        return self._move(
            TaskState.STOPPED, fence=waiting, reason=reason, stop_requested_at=now, finished_at=now
        )

    def request_stop(self, *, reason: str, now: datetime) -> bool:
        """`starting | running | unreachable -> stopping`; the runner ends the process."""
        return self._move(TaskState.STOPPING, stop_reason=reason, stop_requested_at=now)

    def finish(
        self, to: TaskState, *, runner: Runner, attempt: int, now: datetime, **outcome: Any
    ) -> bool:
        """`-> succeeded | failed | stopped | lost` with what the holding runner reported."""
        fence = Q(attempt=attempt, runner=runner, state__in=sorted(HELD))
        return self._move(to, fence=fence, finished_at=now, **outcome)

    def mark_unreachable(self, *, now: datetime) -> bool:
        """`starting | running | stopping -> unreachable`: its runner went silent."""
        return self._move(TaskState.UNREACHABLE, unreachable_at=now)

    def lose(self, *, reason: str, now: datetime) -> bool:
        """`-> lost`: nobody can say how it ended."""
        return self._move(
            TaskState.LOST, fence=Q(attempt=self.attempt), reason=reason, finished_at=now
        )


class LogChunk(models.Model):
    """A stretch of one attempt's log: bytes as the runner journalled them."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="log_chunks")
    attempt = models.PositiveIntegerField()
    offset = models.BigIntegerField()
    data = models.BinaryField()
    received_at = models.DateTimeField()

    class Meta:
        ordering = ("task", "attempt", "offset")
        constraints = (
            models.UniqueConstraint(
                fields=("task", "attempt", "offset"), name="log_chunk_offset_unique"
            ),
            models.CheckConstraint(condition=Q(offset__gte=0), name="log_chunk_offset_positive"),
        )

    def __str__(self) -> str:
        return f"log of task {self.task_id} from byte {self.offset}"


class Leadership(models.Model):
    """Which controller leads, and until when. One row."""

    name = models.CharField(max_length=20, primary_key=True)
    holder = models.CharField(max_length=100)
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} led by {self.holder}"

    @classmethod
    def acquire(cls, name: str, *, holder: str, now: datetime, until: datetime) -> bool:
        """Take or keep the lead until `until`; False while another holder's term lasts."""
        free = Q(expires_at__lte=now) | Q(holder=holder)
        if cls.objects.filter(free, name=name).update(holder=holder, expires_at=until):
            return True
        term = {"holder": holder, "expires_at": until}
        _, created = cls.objects.get_or_create(name=name, defaults=term)
        return created

    @classmethod
    def release(cls, name: str, *, holder: str, now: datetime) -> None:
        """Give up the lead, so that another takes over at once."""
        cls.objects.filter(name=name, holder=holder).update(expires_at=now)
