"""The Django admin of access keys and variable groups. Secrets are typed in and never shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone

from projects.admin_bases import OperationAdmin, ProjectFilter, ReadOnlyAdmin
from projects.errors import AccessKeyNameTakenError, VariableGroupNameTakenError
from projects.models import AccessKey, SecretVariable, VariableGroup
from projects.secret_fields import PasswordField, SecretField
from projects.variables import MAXIMUM_NAME_CHARACTERS, is_shared_variable_name
from tasks.models import TemplateAccessKey
from tasks.operations import (
    remove_access_key,
    remove_variable_group,
    save_access_key,
    save_variable_group,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.db.models import QuerySet

    ModelForm = forms.ModelForm[Any]
else:
    ModelForm = forms.ModelForm

KEPT = "Left empty, what is stored stays."


class SourceAdmin(OperationAdmin):
    """Rows that are deleted by an operation, which refuses while templates use them."""

    def remove(self, obj: Any) -> None:
        raise NotImplementedError

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        self.remove(obj)

    def get_deleted_objects(self, objs: Iterable[Any], request: HttpRequest) -> Any:
        """What goes with them are their own secrets, which nobody can see anyway."""
        names = [str(row) for row in objs]
        return names, {str(self.opts.verbose_name_plural): len(names)}, set(), []

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.readonly_fields if obj is None else ("project", *self.readonly_fields)


def _refuse_taken(form: Any, error: type[Exception]) -> None:
    """Say at the field what the database would say later."""
    name = form.cleaned_data.get("name", "")
    project = form.cleaned_data.get("project", form.instance.project_id)
    others = type(form.instance).objects.exclude(pk=form.instance.pk)
    if others.filter(project=project, name__iexact=name).exists():
        form.add_error("name", str(error(name)))


class AccessKeyForm(ModelForm):
    private_key = SecretField(rows=9, help_text=f"Of an SSH key, with its passphrase. {KEPT}")
    passphrase = PasswordField()
    password = PasswordField(help_text=f"Of a login with password. {KEPT}")
    value = SecretField(rows=3, label="Secret text", help_text=KEPT)

    class Meta:
        model = AccessKey
        fields = ("project", "name", "kind", "login")

    def clean(self) -> dict[str, Any]:
        _refuse_taken(self, AccessKeyNameTakenError)
        return self.cleaned_data

    @property
    def parts(self) -> dict[str, str]:
        found = {name: self.cleaned_data.get(name, "") for name in AccessKey.ALL_PARTS}
        return {name: text for name, text in found.items() if text}


@admin.register(AccessKey)
class AccessKeyAdmin(SourceAdmin):
    form = AccessKeyForm
    fields = (
        "project",
        "name",
        "kind",
        "login",
        *AccessKey.ALL_PARTS,
        "secret_changed_at",
        "problem",
    )
    readonly_fields = ("secret_changed_at", "problem")
    list_display = ("name", "project", "kind", "login", "secret_changed_at")
    list_filter = ("kind", ("project", ProjectFilter))
    list_select_related = ("project",)
    search_fields = ("name", "login", "project__name")
    search_help_text = "A part of its name, login or project. Secrets are not searched"
    autocomplete_fields = ("project",)
    date_hierarchy = "created_at"

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Who may only look has no form, so no field for a secret."""
        if self.has_change_permission(request, obj):
            return self.fields
        return [name for name in self.fields if name not in AccessKey.ALL_PARTS]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        fixed = () if obj is None else ("kind",)
        return (*super().get_readonly_fields(request, obj), *fixed)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        version = self.version(request)
        save_access_key(key=obj, parts=form.parts, now=timezone.now(), version=version)

    def remove(self, obj: Any) -> None:
        remove_access_key(key=obj)


class VariableGroupForm(ModelForm):
    set_name = forms.CharField(
        label="Set the secret",
        max_length=MAXIMUM_NAME_CHARACTERS,
        required=False,
        validators=[is_shared_variable_name],
        help_text="The name of a new secret, or of one to replace.",
    )
    set_value = SecretField(label="to the value", rows=3)
    remove_names = forms.CharField(
        label="Remove secrets", required=False, help_text="Names with spaces between them."
    )

    class Meta:
        model = VariableGroup
        fields = ("project", "name", "description", "variables")

    def clean(self) -> dict[str, Any]:
        _refuse_taken(self, VariableGroupNameTakenError)
        given = self.cleaned_data
        if bool(given.get("set_name")) != bool(given.get("set_value")):
            self.add_error("set_value", "A secret needs both a name and a value.")
        return given

    @property
    def secrets(self) -> dict[str, str | None]:
        given = self.cleaned_data
        found: dict[str, str | None] = dict.fromkeys(given["remove_names"].split())
        return found | ({given["set_name"]: given["set_value"]} if given["set_name"] else {})


@admin.register(VariableGroup)
class VariableGroupAdmin(SourceAdmin):
    form = VariableGroupForm
    new_fields = ("project", "name", "description", "variables", "set_name", "set_value")
    fields = (*new_fields, "remove_names", "secret_list", "problem")
    readonly_fields = ("secret_list", "problem")
    list_display = ("name", "project", "description", "secret_list")
    list_filter = (("project", ProjectFilter),)
    list_select_related = ("project",)
    search_fields = ("name", "description", "project__name", "secrets__name")
    search_help_text = (
        "A part of its name, description, project or of a secret's name. Values are not searched"
    )
    autocomplete_fields = ("project",)
    date_hierarchy = "created_at"

    def get_queryset(self, request: HttpRequest) -> QuerySet[VariableGroup]:
        return super().get_queryset(request).prefetch_related("secrets")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if self.has_change_permission(request, obj):
            return self.fields
        hidden = ("set_name", "set_value", "remove_names")
        return [name for name in self.fields if name not in hidden]

    @admin.display(description="secrets")
    def secret_list(self, group: VariableGroup) -> str:
        return ", ".join(group.secret_names) if group.pk else ""

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        version, now = self.version(request), timezone.now()
        save_variable_group(group=obj, secrets=form.secrets, now=now, version=version)

    def remove(self, obj: Any) -> None:
        remove_variable_group(group=obj)


@admin.register(SecretVariable)
class SecretVariableAdmin(ReadOnlyAdmin):
    """Set and removed in their group."""

    list_display = ("name", "group", "changed_at")
    list_select_related = ("group",)
    list_filter = (("group__project", ProjectFilter), "changed_at")
    search_fields = ("name", "group__name", "group__project__name")
    search_help_text = "A part of its name, group or project. Values are not searched"
    date_hierarchy = "changed_at"
    fields = ("group", "name", "changed_at", "problem")
    readonly_fields = ("problem",)


@admin.register(TemplateAccessKey)
class TemplateAccessKeyAdmin(ReadOnlyAdmin):
    """Chosen in their template."""

    list_display = ("variable", "access_key", "template")
    list_select_related = ("access_key", "template")
    list_filter = (("template__project", ProjectFilter),)
    search_fields = ("variable", "access_key__name", "template__name")
    search_help_text = "A part of the variable's, the access key's or the template's name"
    fields = ("template", "access_key", "variable")
