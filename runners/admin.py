"""The Django admin of runners, their tokens, registration tokens, tags and queues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.template.response import TemplateResponse
from django.utils import timezone

from projects.admin import ProjectFilter, ReadOnlyAdmin, RemovableAdmin, TokenAdmin
from projects.errors import ForgeError
from runners import wheel
from runners.errors import RunnerNameTakenError
from runners.models import (
    MAXIMUM_TAGS,
    BrokerContact,
    Queue,
    RegistrationToken,
    Runner,
    RunnerToken,
    Tag,
    is_tag_name,
)
from runners.operations import (
    create_runner,
    lift_quarantine,
    pause_runner,
    resume_runner,
    rotate_token,
)
from runners.overlap import OverlapForm, overlap_in_words
from runners.pause_form import PauseForm
from runners.registration import create_registration_token, revoke_registration_token
from runners.status import RunnerStatus

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse

    ModelForm = forms.ModelForm[Any]
else:
    ModelForm = forms.ModelForm

CONNECTED = (RunnerStatus.IDLE, RunnerStatus.BUSY, RunnerStatus.DRAINING)


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
        "paused_until",
        "removed_at",
    )
    list_filter = (
        ("removed_at", admin.EmptyFieldListFilter),
        ("project", ProjectFilter),
        "takes_untagged",
        "version",
        "last_heartbeat_at",
        "quarantined_until",
        ("paused_at", admin.EmptyFieldListFilter),
    )
    list_select_related = ("project",)
    search_fields = ("name", "host_name", "project__name", "tags__name")
    autocomplete_fields = ("project",)
    actions = ("lift_quarantine", "pause", "resume", "rotate")
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
        "paused_at",
        "paused_by",
        "paused_until",
        "pause_reason",
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

    @admin.action(description="Pause selected runners", permissions=["change"])
    def pause(self, request: HttpRequest, queryset: QuerySet[Runner]) -> HttpResponse | None:
        """Ask for reason and length, then pause."""
        runners = list(queryset.filter(removed_at=None))
        form = PauseForm(request.POST if "sure" in request.POST else None)
        if runners and not form.is_valid():
            context = {
                **self.admin_site.each_context(request),
                "title": "Pause runners",
                "opts": self.opts,
                "runners": runners,
                "form": form,
            }
            return TemplateResponse(request, "admin/pause_runners.html", context)
        by, now = cast("User", request.user), timezone.now()
        for row in runners:
            reason = form.cleaned_data["reason"]
            pause_runner(runner=row, reason=reason, until=form.until(now), by=by, now=now)
        self.message_user(request, f"Paused: {len(runners)}. What they run goes on.")
        return None

    @admin.action(description="Resume selected runners", permissions=["change"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Runner]) -> None:
        by, now = cast("User", request.user), timezone.now()
        resumed = [row for row in queryset if resume_runner(runner=row, by=by, now=now)]
        self.message_user(request, f"{len(resumed)} of the selected runners were paused.")

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
            return self._ask_for_overlap(request, runner, form)
        try:
            overlap = form.cleaned_data["overlap"]
            user, now = cast("User", request.user), timezone.now()
            new = rotate_token(runner=runner, overlap=overlap, by=user, now=now)
        except ForgeError as error:
            self.message_user(request, str(error), messages.ERROR)
            return None
        words, title = overlap_in_words(overlap), f"Runner {runner} has a new token"
        return self.show_token(request, runner, new.token, title, way="rotate", overlap_words=words)

    def _ask_for_overlap(
        self, request: HttpRequest, runner: Runner, form: OverlapForm
    ) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": f"Make a new token for runner {runner}",
            "opts": self.opts,
            "object": runner,
            "form": form,
        }
        return TemplateResponse(request, "admin/rotate_token.html", context)


@admin.register(RunnerToken)
class RunnerTokenAdmin(ReadOnlyAdmin):
    """Made by a rotation, ended by the next; the digest is nobody's business."""

    list_display = ("runner", "created_at", "created_by", "expires_at", "last_used_at")
    list_filter = (
        ("expires_at", admin.EmptyFieldListFilter),
        ("runner__project", ProjectFilter),
        "created_at",
    )
    list_select_related = ("runner", "created_by")
    search_fields = ("runner__name", "runner__project__name")
    date_hierarchy = "created_at"
    fields = ("runner", "created_at", "created_by", "expires_at", "cut_at", "last_used_at")


class NewRegistrationTokenForm(ModelForm):
    tag_names = TagNamesField()

    class Meta:
        model = RegistrationToken
        fields = (
            "project",
            "name",
            "concurrency",
            "takes_untagged",
            "max_uses",
            "expires_at",
        )


@admin.register(RegistrationToken)
class RegistrationTokenAdmin(TokenAdmin, RemovableAdmin):
    """Deleting one revokes it: runners that were made with it point at its row."""

    list_display = ("name", "project", "status", "uses", "max_uses", "expires_at", "created_by")
    list_filter = (
        ("revoked_at", admin.EmptyFieldListFilter),
        ("project", ProjectFilter),
        "expires_at",
    )
    list_select_related = ("project", "created_by")
    search_fields = ("name", "project__name", "tags__name")
    autocomplete_fields = ("project",)
    date_hierarchy = "created_at"
    new_fields = (
        "project",
        "name",
        "tag_names",
        "concurrency",
        "takes_untagged",
        "max_uses",
        "expires_at",
    )
    fields = (
        "project",
        "name",
        "status",
        "tag_list",
        "concurrency",
        "takes_untagged",
        "uses",
        "max_uses",
        "created_by",
        "created_at",
        "expires_at",
        "revoked_at",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[RegistrationToken]:
        return super().get_queryset(request).prefetch_related("tags")

    def get_form(self, request: HttpRequest, obj: Any = None, *args: Any, **kwargs: Any) -> Any:
        if obj is None:
            kwargs["form"] = NewRegistrationTokenForm
        return super().get_form(request, obj, *args, **kwargs)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.new_fields if obj is None else self.fields

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """What somebody was handed the token for does not change under them."""
        return () if obj is None else self.fields

    @admin.display(description="tags")
    def tag_list(self, token: RegistrationToken) -> str:
        return ", ".join(tag.name for tag in token.tags.all())

    @admin.display(description="status")
    def status(self, token: RegistrationToken) -> str:
        return str(token.status_at(timezone.now()).label)

    def is_present(self, obj: RegistrationToken) -> bool:
        return obj.revoked_at is None

    def remove(self, request: HttpRequest, obj: RegistrationToken) -> None:
        revoke_registration_token(token=obj, now=timezone.now())

    def create(self, request: HttpRequest, obj: Any, form: Any) -> None:
        new = create_registration_token(
            project=obj.project,
            name=obj.name,
            tags=form.cleaned_data["tag_names"],
            concurrency=obj.concurrency,
            takes_untagged=obj.takes_untagged,
            max_uses=obj.max_uses,
            expires_at=obj.expires_at,
            by=cast("User", request.user),
            now=timezone.now(),
        )
        obj.pk = new.row.pk
        self.keep_token(request, new.token)

    def token_context(self) -> dict[str, str]:
        return {"way": "register", "forge_url": settings.FORGE_URL, "wheel": wheel.NAME}


@admin.register(Tag)
class TagAdmin(ReadOnlyAdmin):
    """Tags are made where they are named, and queues keep pointing at them."""

    list_display = ("name", "project")
    list_filter = (("project", ProjectFilter),)
    list_select_related = ("project",)
    search_fields = ("name", "project__name")


@admin.register(Queue)
class QueueAdmin(ReadOnlyAdmin):
    list_display = ("name", "project")
    list_filter = (("project", ProjectFilter),)
    list_select_related = ("project",)
    search_fields = ("name", "project__name")


@admin.register(BrokerContact)
class BrokerContactAdmin(ReadOnlyAdmin):
    """Written by the controller."""

    list_display = ("__str__", "lost_at", "detail")
    fields = ("lost_at", "detail")
