"""The Django admin of runners, their tokens, registration tokens, tags and queues."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, cast

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.utils import timezone

from projects.admin import ProjectAdmin
from projects.admin_bases import (
    PagedAdmin,
    ProjectFilter,
    ReadOnlyAdmin,
    RemovableAdmin,
    TokenAdmin,
    YesNoFilter,
)
from projects.admin_inlines import ShownInline, badge, linked
from projects.errors import ForgeError
from projects.models import Project
from runners import wheel
from runners.errors import RunnerNameTakenError
from runners.models import (
    BrokerContact,
    Queue,
    Runner,
    Tag,
)
from runners.operations import (
    change_runner,
    create_runner,
    drain_runner,
    end_older_tokens,
    lift_quarantine,
    pause_runner,
    resume_runner,
    rotate_token,
)
from runners.overlap import OverlapForm, overlap_in_words
from runners.pause_form import DrainForm, PauseForm
from runners.status import RunnerStatus
from runners.tag_field import TAGS_HELP, TagField
from runners.token_admin import RunnerTokensInline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.contrib.auth.models import User
    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse
    from django.utils.safestring import SafeString

    ModelForm = forms.ModelForm[Any]
else:
    ModelForm = forms.ModelForm

CONNECTED = (RunnerStatus.IDLE, RunnerStatus.BUSY, RunnerStatus.DRAINING)


class VersionFilter(admin.AllValuesFieldListFilter):
    """Also offers those that have told none, in words: a link needs a text."""

    def choices(self, changelist: Any) -> Iterator[Any]:
        for choice in super().choices(changelist):
            yield choice if choice["display"] else {**choice, "display": "Never connected"}


class NewRunnerForm(ModelForm):
    tag_names = TagField(label="Tags", help_text=TAGS_HELP)

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


class RunnerForm(ModelForm):
    """What may be changed of it: the node name follows from the rest."""

    tag_names = TagField(label="Tags", help_text=TAGS_HELP)

    class Meta:
        model = Runner
        fields = ("concurrency", "takes_untagged")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = [tag.name for tag in self.instance.tags.all()]
        self.initial["tag_names"] = " ".join(names)


def contact_of(runner: Runner) -> SafeString:
    """Which tasks it holds is not asked here, so idle and busy are one."""
    status = runner.status_at(timezone.now(), running=0)
    return badge(status, "Connected" if status in CONNECTED else str(status.label))


def _of_runner(operation: Callable[..., Any], runner: Runner, **given: Any) -> Any:
    """The operation, with its runner where `act` puts it."""
    return operation(runner=runner, **given)


class RunnersInline(ShownInline):
    model = Runner
    fields = ("runner", "contact", "concurrency", "version", "address", "last_heartbeat_at")
    ordering = ("name",)
    all_by = "project__id__exact"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Runner]:
        return super().get_queryset(request).filter(removed_at=None)

    @admin.display(description="runner")
    def runner(self, runner: Runner) -> str:
        return linked(runner)

    @admin.display(description="contact")
    def contact(self, runner: Runner) -> SafeString:
        return contact_of(runner)


class EquippedProjectAdmin(ProjectAdmin):
    """With its runners, which `projects` knows nothing of."""

    inlines = (*ProjectAdmin.inlines, RunnersInline)


admin.site.unregister(Project)
admin.site.register(Project, EquippedProjectAdmin)


@admin.register(Runner)
class RunnerAdmin(PagedAdmin, TokenAdmin, RemovableAdmin):
    page = "runner"
    inlines: ClassVar[Any] = (RunnerTokensInline,)
    list_display = (
        "name",
        "contact",
        "trouble",
        "paused_until",
        "last_heartbeat_at",
        "project",
        "tag_list",
        "concurrency",
        "version",
        "address",
    )
    list_filter = (
        ("removed_at", YesNoFilter),
        ("project", ProjectFilter),
        "takes_untagged",
        ("version", VersionFilter),
        "last_heartbeat_at",
        ("trouble", YesNoFilter),
        ("paused_at", YesNoFilter),
        ("quarantined_until", YesNoFilter),
    )
    list_select_related = ("project",)
    search_fields = ("name", "host_name", "address", "project__name", "tags__name")
    search_help_text = "A part of its name, host, address, project or tags"
    autocomplete_fields = ("project",)
    actions = ("pause", "resume", "drain", "rotate", "end_older", "lift_quarantine")
    date_hierarchy = "created_at"
    new_fields = ("project", "name", "tag_names", "concurrency", "takes_untagged")
    # What the node name follows from stays as it was registered.
    readonly_fields = (
        "project",
        "name",
        "contact",
        "last_heartbeat_at",
        "connected_at",
        "version",
        "system",
        "host_name",
        "address",
        "quarantined_until",
        "quarantine_reason",
        "trouble",
        "paused_at",
        "paused_by",
        "paused_until",
        "pause_reason",
        "created_by",
        "created_at",
        "removed_at",
    )
    edited_fields = ("tag_names", "concurrency", "takes_untagged")
    fields = ("project", "name", *edited_fields, *readonly_fields[2:])

    def get_queryset(self, request: HttpRequest) -> QuerySet[Runner]:
        return super().get_queryset(request).prefetch_related("tags")

    def with_page(self, user: Any) -> QuerySet[Runner]:
        """Removed ones, too: their page says what they were."""
        return Runner.objects.ever_for_user(user)

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        return () if obj is None else self.inlines

    def get_form(self, request: HttpRequest, obj: Any = None, *args: Any, **kwargs: Any) -> Any:
        kwargs["form"] = NewRunnerForm if obj is None else RunnerForm
        return super().get_form(request, obj, *args, **kwargs)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return self.new_fields
        if self.has_change_permission(request, obj):
            return self.fields
        return ["tag_list" if name == "tag_names" else name for name in self.fields]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return () if obj is None else (*self.readonly_fields, "tag_list")

    @admin.display(description="tags")
    def tag_list(self, runner: Runner) -> str:
        return ", ".join(tag.name for tag in runner.tags.all())

    @admin.display(description="contact")
    def contact(self, runner: Runner) -> SafeString:
        return contact_of(runner)

    @admin.action(description="Let selected runners back to the broker", permissions=["change"])
    def lift_quarantine(self, request: HttpRequest, queryset: QuerySet[Runner]) -> None:
        by, now = cast("User", request.user), timezone.now()
        lift = partial(_of_runner, lift_quarantine, by=by, now=now)
        words = {"done": "Let back to the broker", "unless": "they were not in quarantine"}
        self.act(request, self.chosen(request, queryset), lift, **words)

    @admin.action(description="Pause selected runners", permissions=["change"])
    def pause(self, request: HttpRequest, queryset: QuerySet[Runner]) -> HttpResponse | None:
        """Ask for reason and length, then pause."""
        runners = self.chosen(request, queryset)
        form = PauseForm(request.POST if "sure" in request.POST else None)
        if not runners:
            return None
        if not form.is_valid():
            asked: dict[str, Any] = {"title": "Pause runners", "button": "Pause", "form": form}
            return self.ask(request, runners, template="admin/pause_runners.html", **asked)
        by, now = cast("User", request.user), timezone.now()
        given = {"reason": form.cleaned_data["reason"], "until": form.until(now)}
        pause = partial(_of_runner, pause_runner, by=by, now=now, **given)
        self.act(request, runners, pause, done="Paused", unless="")
        return None

    @admin.action(description="Resume selected runners", permissions=["change"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Runner]) -> None:
        by, now = cast("User", request.user), timezone.now()
        resume = partial(_of_runner, resume_runner, by=by, now=now)
        words = {"done": "Resumed", "unless": "they were neither paused nor drained"}
        self.act(request, self.chosen(request, queryset), resume, **words)

    @admin.action(description="End the older tokens of selected runners", permissions=["change"])
    def end_older(self, request: HttpRequest, queryset: QuerySet[Runner]) -> HttpResponse | None:
        """Ask, then end the overlap of their rotations."""
        runners = self.chosen(request, queryset)
        if not runners:
            return None
        if "sure" not in request.POST:
            asked: dict[str, Any] = {"title": "End older tokens", "button": "End older tokens"}
            template = "admin/end_older_tokens.html"
            return self.ask(request, runners, template=template, is_grave=True, **asked)
        end = partial(_of_runner, end_older_tokens, now=timezone.now())
        words = {"done": "Older tokens ended of runners", "unless": "they had none"}
        self.act(request, runners, lambda row: end(row) > 0, **words)
        return None

    @admin.action(description="Drain selected runners", permissions=["change"])
    def drain(self, request: HttpRequest, queryset: QuerySet[Runner]) -> HttpResponse | None:
        """Ask why, then let their workers finish and end."""
        runners = self.chosen(request, queryset)
        form = DrainForm(request.POST if "sure" in request.POST else None)
        if not runners:
            return None
        if not form.is_valid():
            asked: dict[str, Any] = {"title": "Drain runners", "button": "Drain", "form": form}
            return self.ask(request, runners, template="admin/drain_runners.html", **asked)
        by, now = cast("User", request.user), timezone.now()
        drain = partial(_of_runner, drain_runner, by=by, now=now, **form.cleaned_data)
        self.act(request, runners, drain, done="Told to drain", unless="")
        return None

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change:
            super().save_model(request, obj, form, change)
            return
        given = {name: form.cleaned_data[name] for name in form.changed_data}
        tags = given.pop("tag_names", None)
        change_runner(runner=obj, changes=given, tags=tags, version=self.version(request))

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
        return {"way": "runner", "forge_url": settings.FORGE_URL, "wheel": wheel.NAME}

    @admin.action(description="Make a new token", permissions=["change"])
    def rotate(self, request: HttpRequest, queryset: QuerySet[Runner]) -> HttpResponse | None:
        """Ask for the overlap, then rotate and show the token, once."""
        runner = queryset.filter(removed_at=None).first()
        if runner is None or queryset.count() != 1:
            sentence = "Select one runner that was not removed: its new token is shown once."
            self.message_user(request, sentence, messages.ERROR)
            return None
        form = OverlapForm(request.POST if "sure" in request.POST else None)
        if not form.is_valid():
            title = f"Make a new token for runner {runner}"
            asked: dict[str, Any] = {"title": title, "button": "Make a new token", "form": form}
            return self.ask(request, [runner], template="admin/rotate_token.html", **asked)
        try:
            overlap = form.cleaned_data["overlap"]
            user, now = cast("User", request.user), timezone.now()
            new = rotate_token(runner=runner, overlap=overlap, by=user, now=now)
        except ForgeError as error:
            self.message_user(request, str(error), messages.ERROR)
            return None
        words, title = overlap_in_words(overlap), f"Runner {runner} has a new token"
        return self.show_token(request, runner, new.token, title, way="rotate", overlap_words=words)


@admin.register(Tag)
class TagAdmin(ReadOnlyAdmin):
    """Tags are made where they are named, and queues keep pointing at them."""

    list_display = ("name", "project")
    list_filter = (("project", ProjectFilter),)
    list_select_related = ("project",)
    search_fields = ("name", "project__name")
    search_help_text = "A part of its name or of its project's name"


@admin.register(Queue)
class QueueAdmin(ReadOnlyAdmin):
    list_display = ("name", "project")
    list_filter = (("project", ProjectFilter),)
    list_select_related = ("project",)
    search_fields = ("name", "project__name")
    search_help_text = "A part of its name or of its project's name"


@admin.register(BrokerContact)
class BrokerContactAdmin(ReadOnlyAdmin):
    """Written by the controller."""

    list_display = ("__str__", "lost_at", "detail")
    fields = ("lost_at", "detail", "refusal")
