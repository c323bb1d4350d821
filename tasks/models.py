"""Templates, tasks and their logs."""

from __future__ import annotations

from datetime import datetime
from typing import Self

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxLengthValidator, MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Lower

from projects.models import AccessKey, Project, VariableGroup, is_one_line
from projects.variables import is_environment, is_shared_variable_name
from runners.models import Queue, Runner, Tag
from tasks.disabling import Disableable
from tasks.lifecycle import BAD, HELD, TERMINAL, UNFINISHED, TaskState
from tasks.log_columns import GAP_IS_MARKED, GAP_MARKER_BYTES, LogColumns, lack_of_end
from tasks.policies import (
    MAXIMUM_ATTEMPTS,
    MAXIMUM_WAIT_SECONDS,
    LostRunnerPolicy,
    RunPolicy,
)
from tasks.querysets import TaskTemplateQuerySet
from tasks.transitions import REASON_LENGTH, TaskTransitions

MAXIMUM_SCRIPT_CHARACTERS = 200_000
MAXIMUM_TIMEOUT_SECONDS = 7 * 24 * 3600


UNSAFE = (
    "A task is run again elsewhere only if its template is marked as safe to run twice. "
    "Mark it, if it is; otherwise choose to wait."
)


class App(models.TextChoices):
    """What carries out the script."""

    BASH = "bash", "Bash"
    PYTHON = "python", "Python"


class TaskTemplate(Disableable, RunPolicy):
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
    # Somebody vouches that a second run after half a first one does no harm.
    safe_to_rerun = models.BooleanField("safe to run twice", default=False)
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
            models.CheckConstraint(
                condition=Q(lost_runner_policy__in=LostRunnerPolicy.values),
                name="template_lost_runner_policy_known",
            ),
            models.CheckConstraint(
                condition=~Q(lost_runner_policy=LostRunnerPolicy.RETRY) | Q(safe_to_rerun=True),
                name="template_retry_only_if_safe",
            ),
            models.CheckConstraint(
                condition=Q(lost_runner_wait_seconds=None)
                | Q(
                    lost_runner_wait_seconds__gte=1,
                    lost_runner_wait_seconds__lte=MAXIMUM_WAIT_SECONDS,
                ),
                name="template_wait_in_range",
            ),
            models.CheckConstraint(
                condition=Q(disabled_at=None) | ~Q(disabled_reason=""),
                name="template_disabled_has_reason",
            ),
            models.CheckConstraint(
                condition=Q(max_attempts__gte=2, max_attempts__lte=MAXIMUM_ATTEMPTS),
                name="template_max_attempts_in_range",
            ),
        )

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """What two fields have to agree on. Raises ValidationError."""
        if self.lost_runner_policy == LostRunnerPolicy.RETRY and not self.safe_to_rerun:
            raise ValidationError({"lost_runner_policy": UNSAFE})


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


class Task(TaskTransitions, LogColumns):
    """One run of a template, with a copy of what the template said when it was asked for.

    How far it has come, and every change of that, is in `TaskTransitions`.
    """

    State = TaskState

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="tasks")
    # Never `db_index=False` later on: Django's migration would drop, on PostgreSQL, every index of
    # that column alone, and with it the constraint that a template runs one task at a time.
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

    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        related_name="+",
    )
    created_at = models.DateTimeField()
    # What its runner was told to keep at the claim; 0 and 0 before there was one.
    log_head_bytes = models.BigIntegerField(default=0)
    log_tail_bytes = models.BigIntegerField(default=0)
    watched_until = models.DateTimeField(null=True)

    class Meta:
        ordering = ("-id",)
        indexes = (
            models.Index(fields=("project", "-id"), name="task_by_project"),
            models.Index(fields=("project", "state", "-id"), name="task_by_state"),
            # The lists' filters, each with the lists' order: a page is read, and nothing else.
            models.Index(fields=("template", "-id"), name="task_by_template"),
            models.Index(fields=("runner", "-id"), name="task_by_runner"),
            models.Index(fields=("created_by", "project", "-id"), name="task_by_person"),
            models.Index(fields=("project", "created_at"), name="task_by_time"),
            models.Index(
                fields=("project", "-id"),
                condition=Q(state__in=sorted(UNFINISHED)),
                name="task_unfinished",
            ),
            models.Index(
                fields=("project", "-id"), condition=Q(state__in=sorted(BAD)), name="task_bad"
            ),
            # State by state: SQLite finds the index of two states in one only by chance.
            *(
                models.Index(
                    fields=("project", "finished_at"),
                    condition=Q(state=state),
                    name=f"task_{state}_by_end",
                )
                for state in sorted(BAD)
            ),
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
                fields=("wait_ends_at",),
                condition=Q(state=TaskState.UNREACHABLE),
                name="task_unreachable",
            ),
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
                condition=~Q(state__in=sorted(HELD)) | Q(lease_expires_at__isnull=False),
                name="task_held_has_lease",
            ),
            models.CheckConstraint(
                condition=~Q(state=TaskState.UNREACHABLE)
                | Q(unreachable_at__isnull=False, wait_ends_at__isnull=False),
                name="task_unreachable_has_end",
            ),
            models.CheckConstraint(
                condition=Q(lost_runner_policy__in=LostRunnerPolicy.values),
                name="task_lost_runner_policy_known",
            ),
            models.CheckConstraint(
                condition=Q(attempt=1)
                | Q(lost_runner_policy=LostRunnerPolicy.RETRY, attempt__lte=F("max_attempts")),
                name="task_attempts_in_limit",
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
            models.CheckConstraint(condition=GAP_IS_MARKED, name="task_log_gap_is_marked"),
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

    @property
    def log_limit_bytes(self) -> int | None:
        """How many bytes of log its runner may send; None if it was never told a limit."""
        kept = self.log_head_bytes + self.log_tail_bytes
        return kept + GAP_MARKER_BYTES if kept else None

    @property
    def log_lack(self) -> str:
        """What a finished task's log lacks, as a sentence; empty if nothing."""
        if not self.is_finished or self.log_complete:
            return ""
        return self.log_problem or lack_of_end(is_lost=self.state == TaskState.LOST)


class TaskAttempt(LogColumns):
    """An attempt that another one has followed. The latest attempt is the task's own row."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="earlier_attempts")
    number = models.PositiveIntegerField()
    runner = models.ForeignKey(Runner, on_delete=models.PROTECT, related_name="+")
    # Lost: nobody can say how it ended. Failed: its runner said that it was cut short.
    state = models.CharField(max_length=20, choices=TaskState.choices)
    reason = models.CharField(max_length=REASON_LENGTH)
    claimed_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField()

    class Meta:
        ordering = ("task", "number")
        constraints = (
            models.UniqueConstraint(fields=("task", "number"), name="task_attempt_number_unique"),
            models.CheckConstraint(
                condition=Q(state__in=sorted((TaskState.LOST, TaskState.FAILED))),
                name="task_attempt_state_known",
            ),
            models.CheckConstraint(condition=~Q(reason=""), name="task_attempt_has_reason"),
            models.CheckConstraint(condition=GAP_IS_MARKED, name="task_attempt_log_gap_is_marked"),
        )

    def __str__(self) -> str:
        return f"attempt {self.number} of task {self.task_id}"

    @classmethod
    def of(cls, task: Task, *, state: TaskState, reason: str, ended_at: datetime | None) -> Self:
        """What there is to say of the attempt that `task` is in; not stored."""
        fields = {name: getattr(task, name) for name in ("runner_id", "claimed_at", "started_at")}
        end = {"state": state, "reason": reason, "ended_at": ended_at}
        return cls(task=task, number=task.attempt, **fields, **task.about_log, **end)


class LogChunk(models.Model):
    """A stretch of one attempt's log: bytes as the runner journalled them."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="log_chunks")
    attempt = models.PositiveIntegerField()
    offset = models.BigIntegerField()
    data = models.BinaryField()
    received_at = models.DateTimeField()
    # How many line ends are before it, and how many in it: lines are found by their number.
    lines_before = models.BigIntegerField(default=0)
    line_ends = models.PositiveIntegerField(default=0)
    # Since when its bytes are written, as `[[3, 500]]`: those from the fourth on for 500 ms before
    # `received_at`; null in a pair, or before the first: nobody knows.
    ages = models.JSONField(null=True)

    class Meta:
        ordering = ("task", "attempt", "offset")
        indexes = (
            models.Index(
                fields=("task", "attempt", "lines_before", "offset"), name="log_chunk_by_line"
            ),
        )
        constraints = (
            models.UniqueConstraint(
                fields=("task", "attempt", "offset"), name="log_chunk_offset_unique"
            ),
            models.CheckConstraint(condition=Q(offset__gte=0), name="log_chunk_offset_positive"),
            models.CheckConstraint(
                condition=Q(lines_before__gte=0), name="log_chunk_lines_before_positive"
            ),
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
