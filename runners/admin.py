"""The Django admin of runners, tags and queues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from django import forms
from django.conf import settings
from django.contrib import admin
from django.utils import timezone

from projects.admin import ReadOnlyAdmin, RemovableAdmin, TokenAdmin
from runners import wheel
from runners.errors import RunnerNameTakenError
from runners.models import MAXIMUM_TAGS, Queue, Runner, Tag, is_tag_name
from runners.operations import create_runner, lift_quarantine
from runners.status import RunnerStatus

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.db.models import QuerySet
    from django.http import HttpRequest

    ModelForm = forms.ModelForm[Any]
else:
    ModelForm = forms.ModelForm

CONNECTED = (RunnerStatus.IDLE, RunnerStatus.BUSY)


class TagNamesField(forms.CharField):
    """Names of tags with spaces or commas between them; cleaned to a list."""

    def __init__(self) -> None:
        help_text = f"At most {MAXIMUM_TAGS}, with spaces or commas between them."
        super().__init__(required=False, max_length=500, label="Tags", help_text=help_text)

    def clean(self, value: Any) -> Any:
        names = list(dict.fromkeys(str(super().clean(value)).replace(",", " ").split()))
        if len(names) > MAXIMUM_TAGS:
            raise forms.ValidationError(f"At most {MAXIMUM_TAGS} tags are possible.")
        for name in names:
            is_tag_name(name)
        return names


class NewRunnerForm(ModelForm):
    tag_names = TagNamesField()

    class Meta:
        model = Runner
        fields = ("project", "name", "concurrency", "takes_untagged")

    def clean(self) -> dict[str, Any]:
        """Say at the field what the database would say later."""
        given = super().clean() or {}
        name, project = given.get("name", ""), given.get("project")
        if Runner.objects.present().filter(project=project, name__iexact=name).exists():
            self.add_error("name", str(RunnerNameTakenError(name)))
        return given


@admin.register(Runner)
class RunnerAdmin(TokenAdmin, RemovableAdmin):
    list_display = (
        "name",
        "project",
        "contact",
        "tag_list",
        "concurrency",
        "takes_untagged",
        "version",
        "last_heartbeat_at",
        "quarantined_until",
        "removed_at",
    )
    list_filter = (
        ("removed_at", admin.EmptyFieldListFilter),
        "project",
        "takes_untagged",
        "version",
        "last_heartbeat_at",
        "quarantined_until",
    )
    list_select_related = ("project",)
    search_fields = ("name", "host_name", "project__name", "tags__name")
    autocomplete_fields = ("project",)
    actions = ("lift_quarantine",)
    date_hierarchy = "created_at"
    new_fields = ("project", "name", "tag_names", "concurrency", "takes_untagged")
    # What the broker account and the node name follow from stays as it was registered.
    readonly_fields = (
        "project",
        "name",
        "tag_list",
        "takes_untagged",
        "contact",
        "last_heartbeat_at",
        "connected_at",
        "version",
        "system",
        "host_name",
        "address",
        "quarantined_until",
        "quarantine_reason",
        "created_by",
        "created_at",
        "removed_at",
    )
    fields = ("project", "name", "tag_list", "concurrency", *readonly_fields[3:])

    def get_queryset(self, request: HttpRequest) -> QuerySet[Runner]:
        return super().get_queryset(request).prefetch_related("tags")

    def get_form(self, request: HttpRequest, obj: Any = None, *args: Any, **kwargs: Any) -> Any:
        if obj is None:
            kwargs["form"] = NewRunnerForm
        return super().get_form(request, obj, *args, **kwargs)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.new_fields if obj is None else self.fields

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return () if obj is None else self.readonly_fields

    @admin.display(description="tags")
    def tag_list(self, runner: Runner) -> str:
        return ", ".join(tag.name for tag in runner.tags.all())

    @admin.display(description="contact")
    def contact(self, runner: Runner) -> str:
        """Which tasks it holds is not asked here, so idle and busy are one."""
        status = runner.status_at(timezone.now(), running=0)
        return "Connected" if status in CONNECTED else str(status.label)

    @admin.action(description="Let selected runners back to the broker", permissions=["change"])
    def lift_quarantine(self, request: HttpRequest, queryset: QuerySet[Runner]) -> None:
        by, now = cast("User", request.user), timezone.now()
        lifted = [row for row in queryset if lift_quarantine(runner=row, by=by, now=now)]
        self.message_user(request, f"{len(lifted)} of the selected runners were in quarantine.")

    def create(self, request: HttpRequest, obj: Any, form: Any) -> None:
        new = create_runner(
            project=obj.project,
            name=obj.name,
            tags=form.cleaned_data["tag_names"],
            concurrency=obj.concurrency,
            takes_untagged=obj.takes_untagged,
            by=cast("User", request.user),
            now=timezone.now(),
        )
        obj.pk = new.runner.pk
        self.keep_token(request, new.token)

    def token_context(self) -> dict[str, str]:
        return {"forge_url": settings.FORGE_URL, "wheel": wheel.NAME}


@admin.register(Tag)
class TagAdmin(ReadOnlyAdmin):
    """Tags are made where they are named, and queues keep pointing at them."""

    list_display = ("name", "project")
    list_filter = ("project",)
    list_select_related = ("project",)
    search_fields = ("name", "project__name")


@admin.register(Queue)
class QueueAdmin(ReadOnlyAdmin):
    list_display = ("name", "project")
    list_filter = ("project",)
    list_select_related = ("project",)
    search_fields = ("name", "project__name")
