"""The Django admin of runners' tokens and of registration tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from django import forms
from django.conf import settings
from django.contrib import admin
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.timezone import localtime

from projects.admin_bases import (
    SEARCH_WARNING,
    ProjectFilter,
    ReadOnlyAdmin,
    RemovableAdmin,
    TokenAdmin,
    YesNoFilter,
)
from projects.admin_inlines import ShownInline, badge, linked
from runners import wheel
from runners.models import RegistrationToken, RunnerToken
from runners.registration import create_registration_token, revoke_registration_token
from runners.tag_field import TAGS_HELP, TagField

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse
    from django.utils.safestring import SafeString

    ModelForm = forms.ModelForm[Any]
else:
    ModelForm = forms.ModelForm


class RunnerTokensInline(ShownInline):
    """The newest has no end; those before it end with the overlap of their rotation."""

    model = RunnerToken
    fields = ("token", "created_by", "expires_at", "cut_at", "last_used_at")
    list_select_related = ("created_by", "runner")
    ordering = ("-pk",)
    all_by = "runner__id__exact"

    @admin.display(description="made")
    def token(self, token: RunnerToken) -> str:
        return linked(token, date_format(localtime(token.created_at), "DATETIME_FORMAT"))


@admin.register(RunnerToken)
class RunnerTokenAdmin(ReadOnlyAdmin):
    """Made by a rotation, ended by the next; the digest is nobody's business."""

    list_display = ("runner", "created_at", "created_by", "expires_at", "last_used_at")
    list_filter = (
        ("expires_at", YesNoFilter),
        ("runner__project", ProjectFilter),
        "created_at",
    )
    list_select_related = ("runner", "created_by")
    search_fields = (
        "runner__name",
        "runner__address",
        "runner__project__name",
        "created_by__username",
    )
    search_help_text = (
        "A part of the name or address of its runner, of the project's name, or of the user name "
        f"of whoever made it. {SEARCH_WARNING}"
    )
    date_hierarchy = "created_at"
    fields = ("runner", "created_at", "created_by", "expires_at", "cut_at", "last_used_at")


class NewRegistrationTokenForm(ModelForm):
    tag_names = TagField(label="Tags", help_text=TAGS_HELP)

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

    actions = ("revoke",)
    offers_deletion = False
    list_display = ("name", "project", "status", "uses", "max_uses", "expires_at", "created_by")
    list_filter = (
        ("revoked_at", YesNoFilter),
        ("project", ProjectFilter),
        "expires_at",
    )
    list_select_related = ("project", "created_by")
    search_fields = ("name", "project__name", "tags__name", "created_by__username")
    search_help_text = (
        "A part of its name, project or tags, or of the user name of whoever made it. "
        f"{SEARCH_WARNING}"
    )
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
    def status(self, token: RegistrationToken) -> SafeString:
        status = token.status_at(timezone.now())
        return badge(status, str(status.label))

    def is_present(self, obj: RegistrationToken) -> bool:
        return obj.revoked_at is None

    @admin.action(description="Revoke selected registration tokens", permissions=["delete"])
    def revoke(
        self, request: HttpRequest, queryset: QuerySet[RegistrationToken]
    ) -> HttpResponse | None:
        """Ask, then revoke."""
        tokens = self.chosen(request, queryset)
        if not tokens:
            return None
        if "sure" not in request.POST:
            asked: dict[str, Any] = {"title": "Revoke registration tokens", "button": "Revoke"}
            template = "admin/revoke_registration_tokens.html"
            return self.ask(request, tokens, template=template, is_grave=True, **asked)
        now = timezone.now()
        self.act(
            request,
            tokens,
            lambda row: revoke_registration_token(token=row, now=now),
            done="Revoked",
            unless="they were revoked before",
        )
        return None

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
