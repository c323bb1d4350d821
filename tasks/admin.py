"""The Django admin of templates, tasks, logs and leadership, and how runners are removed there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from django import forms
from django.contrib import admin
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Length
from django.utils import timezone

from projects.admin import ProjectFilter, ReadOnlyAdmin, RemovableAdmin
from projects.models import AccessKey
from runners.admin import RunnerAdmin, TagNamesField
from runners.models import Runner
from tasks import source_admin  # noqa: F401  # registers what templates draw on
from tasks.errors import TaskFinishedError, TemplateNameTakenError, TemplateRemovedError
from tasks.models import Leadership, LogChunk, Task, TaskAttempt, TaskTemplate
from tasks.operations import (
    force_stop_task,
    remove_template,
    retire_runner,
    save_template,
    stop_task,
)
from tasks.policy_fields import StopStepsField, WaitField

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.db.models import QuerySet
    from django.http import HttpRequest

    ModelForm = forms.ModelForm[Any]
else:
    ModelForm = forms.ModelForm


# So many templates and runners of a name are looked for.
NAMED = 200
POLICY_FIELDS = (
    "lost_runner_policy",
    "lost_runner_wait_seconds",
    "safe_to_rerun",
    "max_attempts",
    "stop_steps",
)


class RetiringRunnerAdmin(RunnerAdmin):
    """Removing a runner ends its tasks, which `runners` knows nothing of."""

    def remove(self, request: HttpRequest, obj: Any) -> None:
        retire_runner(runner=obj, by=cast("User", request.user), now=timezone.now())


admin.site.unregister(Runner)
admin.site.register(Runner, RetiringRunnerAdmin)


class TemplateForm(ModelForm):
    lost_runner_wait_seconds = WaitField(
        label="Wait for it at most", help_text="As 90 s, 60 min, 36 h, 3 d. Empty: the default."
    )
    stop_steps = StopStepsField(
        label="Stop by", help_text="Signals and seconds, as INT 120, TERM 30; KILL comes last."
    )
    # Not stripped: a script is stored as it was written.
    script = forms.CharField(strip=False, widget=forms.Textarea(attrs={"rows": 20, "cols": 100}))
    tag_names = TagNamesField()
    key_names = forms.CharField(
        label="Access keys",
        required=False,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text="VARIABLE=name of the access key, one a line.",
    )

    class Meta:
        model = TaskTemplate
        fields = (
            "project",
            "name",
            "description",
            "app",
            "script",
            "timeout_seconds",
            "environment",
            "variable_groups",
            "allow_parallel",
            *POLICY_FIELDS,
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Left out, they keep the model's defaults.
        for field in {"lost_runner_policy", "max_attempts"} & self.fields.keys():
            self.fields[field].required = False
        if self.instance.pk:
            names = (tag.name for tag in self.instance.tags.all())
            self.fields["tag_names"].initial = " ".join(names)
            uses = self.instance.access_key_uses.select_related("access_key")
            lines = (f"{use.variable}={use.access_key.name}" for use in uses)
            self.fields["key_names"].initial = "\n".join(lines)

    def clean_script(self) -> str:
        """Browsers send CRLF, which shells take for part of a command."""
        return str(self.cleaned_data["script"]).replace("\r\n", "\n")

    def clean_key_names(self) -> dict[int, str]:
        """Variable names by id of the access key."""
        project = self.cleaned_data.get("project", self.instance.project_id)
        ids = dict(AccessKey.objects.filter(project=project).values_list("name", "pk"))
        found: dict[int, str] = {}
        for line in filter(str.strip, str(self.cleaned_data["key_names"]).splitlines()):
            variable, _, name = map(str.strip, line.partition("="))
            if name not in ids:
                raise forms.ValidationError(f"This project has no access key called {name[:80]!r}.")
            found[ids[name]] = variable
        return found

    def clean(self) -> dict[str, Any]:
        """Say at the field what the database would say later."""
        given = super().clean() or {}
        name = given.get("name", "")
        project = given.get("project", self.instance.project_id)
        others = TaskTemplate.objects.present().exclude(pk=self.instance.pk)
        if others.filter(project=project, name__iexact=name).exists():
            self.add_error("name", str(TemplateNameTakenError(name)))
        return given


@admin.register(TaskTemplate)
class TaskTemplateAdmin(RemovableAdmin):
    form = TemplateForm
    fields = (
        "project",
        "name",
        "description",
        "app",
        "script",
        "tag_names",
        "timeout_seconds",
        "environment",
        "variable_groups",
        "key_names",
        "allow_parallel",
        *POLICY_FIELDS,
    )
    list_display = ("name", "project", "app", "tag_list", "timeout_seconds", "updated_at")
    list_filter = (
        ("removed_at", admin.EmptyFieldListFilter),
        "app",
        "allow_parallel",
        "lost_runner_policy",
        ("project", ProjectFilter),
    )
    list_select_related = ("project",)
    search_fields = ("name", "description", "project__name")
    autocomplete_fields = ("project",)
    date_hierarchy = "created_at"

    def get_queryset(self, request: HttpRequest) -> QuerySet[TaskTemplate]:
        return super().get_queryset(request).prefetch_related("tags")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Who may only look has no form, so no field of one."""
        if self.has_change_permission(request, obj):
            return self.fields
        shown = (name for name in self.fields if name not in ("tag_names", "key_names"))
        return (*shown, "tag_list")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ()
        is_open = self.has_change_permission(request, obj)
        return ("project",) if is_open else ("project", "tag_list")

    @admin.display(description="tags")
    def tag_list(self, template: TaskTemplate) -> str:
        return ", ".join(tag.name for tag in template.tags.all())

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        with transaction.atomic():
            if change:
                _hold(obj)
            given = form.cleaned_data
            save_template(
                template=obj,
                tags=given["tag_names"],
                groups=[group.pk for group in given["variable_groups"]],
                keys=given["key_names"],
            )

    def remove(self, request: HttpRequest, obj: Any) -> None:
        remove_template(template=obj, now=timezone.now())


def _hold(template: TaskTemplate) -> None:
    """Lock the row, so that saving it cannot bring back what was removed a moment ago."""
    rows = TaskTemplate.objects.present().filter(pk=template.pk).order_by()
    if not rows.select_for_update().exists():
        raise TemplateRemovedError(template.name)


@admin.register(Task)
class TaskAdmin(ReadOnlyAdmin):
    actions = ("stop", "force_stop")  # type: ignore[assignment]  # its base has none
    list_display = (
        "id",
        "project",
        "template",
        "state",
        "reason",
        "runner",
        "attempt",
        "created_by",
        "created_at",
        "finished_at",
    )
    list_filter = (
        "state",
        "app",
        "log_complete",
        "lost_runner_policy",
        "created_at",
        ("project", ProjectFilter),
    )
    list_select_related = ("project", "template", "runner", "created_by")
    search_fields = ("=id", "template__name", "runner__name")
    search_help_text = "A number, or a part of a template's or a runner's name"
    exclude = ("nonce",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Task]:
        rows = super().get_queryset(request).defer("script", "environment", "nonce")
        # Of their templates only the names are shown.
        return rows.defer("template__script", "template__environment")

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
        named = [
            list(rows.filter(name__icontains=text).order_by().values_list("pk", flat=True)[:NAMED])
            for rows in (TaskTemplate.objects.all(), Runner.objects.all())
        ]
        return queryset.filter(Q(template__in=named[0]) | Q(runner__in=named[1])), False

    def has_stop_permission(self, request: HttpRequest) -> bool:
        """The rows themselves are nobody's to edit; to stop a task changes it."""
        return request.user.has_perm("tasks.change_task")

    @admin.action(description="Stop selected tasks", permissions=["stop"])
    def stop(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        self._end(request, queryset, stop_task)

    @admin.action(description="Force-stop selected tasks: kill at once", permissions=["stop"])
    def force_stop(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        self._end(request, queryset, force_stop_task)

    def _end(
        self, request: HttpRequest, queryset: QuerySet[Task], operation: Callable[..., None]
    ) -> None:
        by, now = cast("User", request.user), timezone.now()
        finished = 0
        for task in queryset.select_related("runner"):
            try:
                operation(task=task, by=by, now=now)
            except TaskFinishedError:
                finished += 1
        asked = queryset.count() - finished
        self.message_user(request, f"{asked} were told to stop, {finished} had ended before.")


@admin.register(TaskAttempt)
class TaskAttemptAdmin(ReadOnlyAdmin):
    """Attempts that another one has followed; the latest is the task's own row."""

    list_display = ("task_number", "number", "runner", "state", "reason", "claimed_at", "ended_at")
    list_filter = ("state", "ended_at")
    list_select_related = ("runner",)
    search_fields = ("=task__id", "runner__name", "reason")
    ordering = ("-id",)

    @admin.display(description="task", ordering="task_id")
    def task_number(self, attempt: TaskAttempt) -> str:
        return f"#{attempt.task_id}"


@admin.register(LogChunk)
class LogChunkAdmin(ReadOnlyAdmin):
    """Where the bytes lie; what they say is on the task's page."""

    list_display = ("id", "task_number", "attempt", "offset", "size", "received_at")
    list_select_related = ("task__template",)
    search_fields = ("=task__id",)
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


@admin.register(Leadership)
class LeadershipAdmin(ReadOnlyAdmin):
    list_display = ("name", "holder", "expires_at")
    search_fields = ("holder",)
