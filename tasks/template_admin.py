"""The Django admin of templates."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

from django import forms
from django.contrib import admin
from django.db import transaction
from django.utils import timezone

from projects.admin_bases import PagedAdmin, ProjectFilter, RemovableAdmin, YesNoFilter
from projects.admin_fields import BoundedLinks
from projects.models import AccessKey, VariableGroup
from projects.names import name_as_stored
from runners.tag_field import TAGS_HELP, TagField
from tasks.disable_form import DisableForm
from tasks.errors import TemplateNameTakenError, TemplateRemovedError
from tasks.models import TaskTemplate
from tasks.operations import (
    disable_template,
    duplicate_template,
    enable_template,
    remove_template,
    save_template,
)
from tasks.policy_fields import StopStepsField, WaitField

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse

    ModelForm = forms.ModelForm[Any]
else:
    ModelForm = forms.ModelForm


POLICY_FIELDS = (
    "lost_runner_policy",
    "lost_runner_wait_seconds",
    "safe_to_rerun",
    "max_attempts",
    "stop_steps",
)


class GroupsOfProjects(BoundedLinks):
    """Groups of several projects may have one name."""

    def label_from_instance(self, obj: Any) -> str:
        return f"{obj.name} ({obj.project})"


class TemplateForm(ModelForm):
    lost_runner_wait_seconds = WaitField(
        label="Wait for it at most", help_text="As 90 s, 60 min, 36 h, 3 d. Empty: the default."
    )
    stop_steps = StopStepsField(
        label="Stop by",
        help_text="Signals and seconds, as INT 120, TERM 30; KILL comes last. Empty: KILL at once.",
    )
    # Not stripped: a script is stored as it was written.
    script = forms.CharField(strip=False, widget=forms.Textarea(attrs={"rows": 20, "cols": 100}))
    tag_names = TagField(label="Tags", help_text=TAGS_HELP)
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
            if groups := self.fields.get("variable_groups"):
                own = VariableGroup.objects.filter(project=self.instance.project_id)
                cast("GroupsOfProjects", groups).queryset = own.select_related("project")
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
        others = TaskTemplate.objects.present().filter(project=project)
        others = others.exclude(pk=self.instance.pk)
        if others.filter(name__iexact=name).exists():
            self.add_error("name", str(TemplateNameTakenError(name_as_stored(others, name))))
        for group in given.get("variable_groups", ()):
            if project is not None and group.project_id != getattr(project, "pk", project):
                sentence = f"{group.name} is a group of {group.project}, not of this project."
                self.add_error("variable_groups", sentence)
        return given


class LostRunnerFilter(admin.ChoicesFieldListFilter):
    """The field's own name begins a sentence of the form, and says nothing behind “By”."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.title = "what follows a lost runner"


@admin.register(TaskTemplate)
class TaskTemplateAdmin(PagedAdmin, RemovableAdmin):
    page = "template"
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
    actions = ("disable", "enable", "duplicate")
    # Changed by actions alone, which ask why.
    disabled_fields = ("disabled_at", "disabled_by", "disabled_reason")
    list_display = (
        "name",
        "project",
        "app",
        "tag_list",
        "timeout_seconds",
        "disabled_reason",
        "updated_at",
    )
    list_filter = (
        ("removed_at", YesNoFilter),
        ("disabled_at", YesNoFilter),
        "app",
        "allow_parallel",
        ("lost_runner_policy", LostRunnerFilter),
        ("project", ProjectFilter),
    )
    list_select_related = ("project",)
    search_fields = ("name", "description", "project__name", "tags__name")
    search_help_text = "A part of its name, description, project or tags"
    autocomplete_fields = ("project",)
    date_hierarchy = "created_at"

    def formfield_for_manytomany(self, db_field: Any, request: Any, **given: Any) -> Any:
        groups = VariableGroup.objects.select_related("project").order_by("name", "project__name")
        given |= {"form_class": GroupsOfProjects, "queryset": groups}
        return super().formfield_for_manytomany(db_field, request, **given)

    def get_queryset(self, request: HttpRequest) -> QuerySet[TaskTemplate]:
        return super().get_queryset(request).prefetch_related("tags")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Who may only look has no form, so no field of one."""
        if obj is None:
            return self.fields
        if self.has_change_permission(request, obj):
            return (*self.fields, *self.disabled_fields)
        shown = (name for name in self.fields if name not in ("tag_names", "key_names"))
        return (*shown, "tag_list", *self.disabled_fields)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ()
        is_open = self.has_change_permission(request, obj)
        shown = ("project",) if is_open else ("project", "tag_list")
        return (*shown, *self.disabled_fields)

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
                version=self.version(request),
            )

    def remove(self, request: HttpRequest, obj: Any) -> None:
        remove_template(template=obj, now=timezone.now())

    @admin.action(description="Disable selected templates", permissions=["change"])
    def disable(
        self, request: HttpRequest, queryset: QuerySet[TaskTemplate]
    ) -> HttpResponse | None:
        """Ask for the reason, then disable."""
        templates = self.chosen(request, queryset)
        form = DisableForm(request.POST if "sure" in request.POST else None)
        if not templates:
            return None
        if not form.is_valid():
            asked: dict[str, Any] = {
                "title": "Disable templates",
                "button": "Disable",
                "form": form,
            }
            return self.ask(request, templates, template="admin/disable_templates.html", **asked)
        reason = form.cleaned_data["reason"]
        disable = partial(disable_template, reason=reason, by=cast("User", request.user))
        now, done = timezone.now(), "Disabled"
        self.act(
            request, templates, lambda row: disable(template=row, now=now), done=done, unless=""
        )
        return None

    @admin.action(description="Enable selected templates", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[TaskTemplate]) -> None:
        words = {"done": "Enabled", "unless": "they were not disabled"}
        rows = self.chosen(request, queryset)
        self.act(request, rows, lambda row: enable_template(template=row), **words)

    @admin.action(description="Duplicate selected templates", permissions=["add"])
    def duplicate(self, request: HttpRequest, queryset: QuerySet[TaskTemplate]) -> None:
        words = {"done": "Duplicated", "unless": "they were removed"}
        self.act(request, self.chosen(request, queryset), _duplicate, **words)


def _duplicate(template: TaskTemplate) -> bool:
    if template.removed_at is not None:
        return False
    duplicate_template(template=template)
    return True


def _hold(template: TaskTemplate) -> None:
    """Lock the row, so that saving it cannot bring back what was removed a moment ago."""
    rows = TaskTemplate.objects.present().filter(pk=template.pk).order_by()
    if not rows.select_for_update().exists():
        raise TemplateRemovedError(template.name)
