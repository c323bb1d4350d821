"""The Django admin of tasks, logs and leadership, and how runners are removed there."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Q
from django.db.models.functions import Length
from django.utils import timezone

from projects.admin_bases import AskingAdmin, PagedAdmin, ProjectFilter, ReadOnlyAdmin
from projects.admin_inlines import ShownInline, badge, linked
from runners.admin import RunnerAdmin
from runners.models import Runner
from tasks import source_admin, template_admin  # noqa: F401  # registers them
from tasks.log_columns import LogOutline
from tasks.models import Leadership, LogChunk, Task, TaskAttempt, TaskTemplate
from tasks.operations import force_stop_task, retire_runner, stop_task
from tasks.template_admin import LostRunnerFilter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse
    from django.utils.safestring import SafeString

    from tasks.querysets import TaskQuerySet


# So many templates, runners and users of a name are looked for.
NAMED = 200
# A task's page reads in this order; all but its nonce is there.
WAY = (
    "created_by",
    "created_at",
    "queued_at",
    "hinted_at",
    "claimed_at",
    "started_at",
    "finished_at",
    "attempt",
    "rerun_of",
    "lease_expires_at",
    "unreachable_at",
    "wait_ends_at",
    "stop_requested_at",
    "stop_reason",
    "force_requested_at",
)
RULES = (
    "timeout_seconds",
    "runs_alone",
    "lost_runner_policy",
    "lost_runner_wait_seconds",
    "max_attempts",
    "stop_steps",
)
LOG = (
    "has_whole_log",
    "log_problem",
    "log_bytes",
    "log_lines",
    "log_sha256",
    "log_written_bytes",
    "log_gap_offset",
    "log_gap_bytes",
    "log_head_bytes",
    "log_tail_bytes",
    "watched_until",
)


class TasksInline(ShownInline):
    """What a runner holds now: its list has what it held before, too."""

    model = Task
    fields = ("task", "project", "state", "attempt", "started_at", "created_by")
    list_select_related = ("template", "project", "created_by")
    ordering = ("-pk",)
    all_by = "runner__id__exact"
    verbose_name_plural = "Running tasks"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Task]:
        rows = cast("TaskQuerySet", super().get_queryset(request))
        return rows.held().without_scripts("template")

    @admin.display(description="task")
    def task(self, task: Task) -> str:
        return linked(task)


class AttemptsInline(ShownInline):
    """Those before the latest, which is the task's own row."""

    model = TaskAttempt
    fields = ("attempt_number", "runner", "state", "reason", "claimed_at", "ended_at")
    list_select_related = ("runner",)
    ordering = ("-pk",)
    all_by = "task__id__exact"
    verbose_name_plural = "Earlier attempts"

    @admin.display(description="attempt")
    def attempt_number(self, attempt: TaskAttempt) -> str:
        return linked(attempt, str(attempt.number))


class RetiringRunnerAdmin(RunnerAdmin):
    """Removing a runner ends its tasks, which `runners` knows nothing of."""

    inlines = (TasksInline, *RunnerAdmin.inlines)

    def remove(self, request: HttpRequest, obj: Any) -> None:
        retire_runner(runner=obj, by=cast("User", request.user), now=timezone.now())

    def get_deleted_objects(self, objs: Iterable[Any], request: HttpRequest) -> Any:
        """With each runner, how many tasks end with it."""
        runners = list(objs)
        names, *rest = super().get_deleted_objects(runners, request)
        ended = Counter(
            Task.objects.held().filter(runner__in=runners).values_list("runner_id", flat=True)
        )
        for place, runner in enumerate(runners):
            if count := ended[runner.pk]:
                names[place] += f": {count} of its tasks {'ends' if count == 1 else 'end'} with it"
        return names, *rest


admin.site.unregister(Runner)
admin.site.register(Runner, RetiringRunnerAdmin)


@admin.register(Task)
class TaskAdmin(PagedAdmin, AskingAdmin, ReadOnlyAdmin):
    page = "task"
    inlines = (AttemptsInline,)
    actions = ("stop", "force_stop")  # type: ignore[assignment]  # its base has none
    list_display = (
        "id",
        "state_badge",
        "template",
        "runner",
        "created_by",
        "created_at",
        "finished_at",
        "project",
        "reason",
        "attempt",
    )
    list_filter = (
        "state",
        "app",
        "log_complete",
        ("lost_runner_policy", LostRunnerFilter),
        "created_at",
        ("project", ProjectFilter),
    )
    list_select_related = ("project", "template", "runner", "created_by")
    search_fields = ("=id", "template__name", "runner__name", "created_by__username")
    search_help_text = "A number, or a part of the name of a template, a runner or a user"
    readonly_fields = ("runs_alone", "has_whole_log")
    fieldsets = (
        (None, {"fields": ("project", "template", "state", "reason", "exit_code", "runner")}),
        ("Its way", {"fields": WAY}),
        ("What it runs", {"fields": ("app", "script", "environment", "sources", "queue")}),
        ("By which rules", {"fields": RULES}),
        ("Its log", {"fields": LOG}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Task]:
        rows = cast("TaskQuerySet", super().get_queryset(request))
        # Of their templates only the names are shown.
        return rows.without_scripts("template").defer("nonce")

    @admin.display(description="state", ordering="state")
    def state_badge(self, task: Task) -> SafeString:
        return badge(task.state, task.get_state_display())

    # In words: Django's own sign for "no" is red, as if something were wrong.
    @admin.display(description="is exclusive")
    def runs_alone(self, task: Task) -> str:
        return "Yes" if task.is_exclusive else "No"

    @admin.display(description="log complete")
    def has_whole_log(self, task: Task) -> SafeString | str:
        """Nothing before its end: until then no log can be complete."""
        if not task.is_finished:
            return "-"
        return "Yes" if task.log_complete else badge("failed", "No")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Task], search_term: str
    ) -> tuple[QuerySet[Task], bool]:
        """By number or by name; names are looked up where they are few, not in all tasks."""
        text = search_term.replace("\0", "").strip()
        if not text:
            return queryset, False
        digits = text.removeprefix("#")
        if digits.isascii() and digits.isdigit():
            return queryset.filter(pk=int(digits[:18])), False
        found = Q()
        for field, name, rows in (
            ("template", "name", TaskTemplate.objects.all()),
            ("runner", "name", Runner.objects.all()),
            ("created_by", "username", User.objects.all()),
        ):
            named = rows.filter(**{f"{name}__icontains": text}).order_by()
            if ids := list(named.values_list("pk", flat=True)[:NAMED]):
                found |= Q(**{f"{field}__in": ids})
        return (queryset.filter(found) if found else queryset.none()), False

    def has_stop_permission(self, request: HttpRequest) -> bool:
        """The rows themselves are nobody's to edit; to stop a task changes it."""
        return request.user.has_perm("tasks.change_task")

    @admin.action(description="Stop selected tasks", permissions=["stop"])
    def stop(self, request: HttpRequest, queryset: QuerySet[Task]) -> HttpResponse | None:
        words = {"title": "Stop tasks", "button": "Stop", "template": "admin/stop_tasks.html"}
        return self._end(request, queryset, stop_task, **words)

    @admin.action(description="Force-stop selected tasks: kill at once", permissions=["stop"])
    def force_stop(self, request: HttpRequest, queryset: QuerySet[Task]) -> HttpResponse | None:
        template = "admin/force_stop_tasks.html"
        words = {"title": "Force-stop tasks", "button": "Force stop", "template": template}
        return self._end(request, queryset, force_stop_task, **words)

    def _end(
        self,
        request: HttpRequest,
        queryset: QuerySet[Task],
        operation: Callable[..., bool],
        **words: Any,
    ) -> HttpResponse | None:
        """Say what will happen, then tell them to stop."""
        tasks = self.chosen(request, queryset)
        if not tasks:
            return None
        if "sure" not in request.POST:
            open_tasks = [task for task in tasks if not task.is_finished]
            asked: dict[str, Any] = {"open_tasks": open_tasks, "is_idle": not open_tasks}
            return self.ask(request, tasks, is_grave=True, **asked, **words)
        by, now = cast("User", request.user), timezone.now()
        unless = "somebody had asked for it before"
        end = partial(operation, by=by, now=now)
        self.act(request, tasks, lambda row: end(task=row), done="Told to stop", unless=unless)
        return None


@admin.register(TaskAttempt)
class TaskAttemptAdmin(ReadOnlyAdmin):
    """Attempts that another one has followed; the latest is the task's own row."""

    list_display = (
        "task_number",
        "number",
        "state_badge",
        "runner",
        "claimed_at",
        "ended_at",
        "reason",
    )
    list_filter = ("state", "ended_at")
    list_select_related = ("runner",)
    search_fields = ("=task__id", "runner__name", "reason")
    search_help_text = "A task's number, or a part of a runner's name or of the reason"
    ordering = ("-id",)

    @admin.display(description="task", ordering="task_id")
    def task_number(self, attempt: TaskAttempt) -> str:
        return f"#{attempt.task_id}"

    @admin.display(description="state", ordering="state")
    def state_badge(self, attempt: TaskAttempt) -> SafeString:
        return badge(attempt.state, attempt.get_state_display())


@admin.register(LogChunk)
class LogChunkAdmin(ReadOnlyAdmin):
    """Where the bytes lie; what they say is on the task's page."""

    list_display = ("id", "task_number", "attempt", "offset", "size", "received_at")
    search_fields = ("=task__id",)
    search_help_text = "A task's number"
    ordering = ("-id",)
    fields = ("task", "attempt", "offset", "size", "received_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[LogChunk]:
        rows: QuerySet[LogChunk] = super().get_queryset(request)
        return rows.defer("data").annotate(size=Length("data"))

    @admin.display(description="task", ordering="task_id")
    def task_number(self, chunk: LogChunk) -> str:
        return f"#{chunk.task_id}"

    @admin.display(description="bytes")
    def size(self, chunk: Any) -> int:
        return int(chunk.size)


@admin.register(LogOutline)
class LogOutlineAdmin(ReadOnlyAdmin):
    """How far a log was looked through; what was found is on the task's page."""

    list_display = ("id", "task_number", "attempt", "offset", "line")
    search_fields = ("=task__id",)
    search_help_text = "A task's number"
    ordering = ("-id",)
    fields = ("task", "attempt", "offset", "line", "masked")

    def get_queryset(self, request: HttpRequest) -> QuerySet[LogOutline]:
        rows: QuerySet[LogOutline] = super().get_queryset(request)
        return rows.defer("marks")

    @admin.display(description="task", ordering="task_id")
    def task_number(self, outline: LogOutline) -> str:
        return f"#{outline.task_id}"


@admin.register(Leadership)
class LeadershipAdmin(ReadOnlyAdmin):
    list_display = ("name", "holder", "expires_at")
    search_fields = ("holder",)
    search_help_text = "A part of its holder's name"
