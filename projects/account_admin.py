"""The Django admin of accounts and their groups, and of the audit log."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, cast

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.forms import (
    AdminPasswordChangeForm,
    ReadOnlyPasswordHashField,
    ReadOnlyPasswordHashWidget,
    UserChangeForm,
)
from django.contrib.auth.hashers import is_password_usable
from django.contrib.auth.models import Group, Permission, User
from django.core.exceptions import ValidationError
from django.core.validators import validate_ipv46_address
from django.db.models import Q, Value
from django.db.models.functions import Lower

from projects.admin_bases import ReadOnlyAdmin
from projects.admin_forms import RefusingAdmin
from projects.admin_inlines import ShownInline, linked
from projects.audit.entry import AuditEntry, Kind, Verb
from projects.audit.recording import record, record_saved, snapshot
from projects.errors import LastOwnerError
from projects.members import (
    change_password,
    demand_other_owners,
    has_role_above,
)
from projects.models import Membership, UserToken
from projects.removal import let_go, remove_users
from projects.versions import require_version

if TYPE_CHECKING:
    from django.db.models import QuerySet, TextChoices
    from django.http import HttpRequest

    _UserAdmin = UserAdmin[User]
    _UserChangeForm = UserChangeForm[User]
    _PasswordForm = AdminPasswordChangeForm[User]
else:
    _UserAdmin = UserAdmin
    _UserChangeForm = UserChangeForm
    _PasswordForm = AdminPasswordChangeForm

admin.site.unregister(User)
admin.site.unregister(Group)


# Whoever could give these would have them all: to their own account, or by way of another.
RIGHTS = ("is_superuser", "groups", "user_permissions")


class RecordedAdmin(RefusingAdmin):
    """Rows that no operation of Forge's writes. Django runs all of this in one transaction."""

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        form.before = snapshot(obj) if change else None
        if not change:
            super().save_model(request, obj, form, change)
            return
        require_version(obj, self.version(request))
        columns = {field.name for field in obj._meta.concrete_fields}
        obj.save(update_fields=sorted(columns.intersection(form.changed_data)))

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Recorded here, when its links are saved too."""
        super().save_related(request, form, formsets, change)
        record_saved(form.instance, form.before)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        record(Verb.REMOVED, obj)
        obj.delete()


class MembershipsInline(ShownInline):
    model = Membership
    fields = ("membership", "role", "created_at")
    list_select_related = ("user", "project")
    ordering = ("pk",)
    all_by = "user__id__exact"
    verbose_name_plural = "Member of"

    @admin.display(description="project")
    def membership(self, membership: Membership) -> str:
        return linked(membership, membership.project.name)


class ApiTokensInline(ShownInline):
    """Never what they are, only that they are there."""

    model = UserToken
    fields = ("token", "created_at", "expires_at", "last_used_at")
    ordering = ("-pk",)
    all_by = "user__id__exact"

    @admin.display(description="name")
    def token(self, token: UserToken) -> str:
        return linked(token, token.name)


class PasswordSetWidget(ReadOnlyPasswordHashWidget):
    """Says that there is a password, where Django shows how its hash begins."""

    def get_context(self, name: str, value: Any, attrs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context(name, value, attrs)
        is_set = value and is_password_usable(value)
        words = "A password is set." if is_set else "No password is set."
        return context | {"summary": [{"label": words}]}


class AccountForm(_UserChangeForm):
    password = ReadOnlyPasswordHashField(label="Password", widget=PasswordSetWidget)

    def clean_is_active(self) -> bool:
        """In the transaction that saves: what is looked at here stays as it is until then."""
        is_active = bool(self.cleaned_data["is_active"])
        if not is_active and "is_active" in self.changed_data:
            try:
                demand_other_owners(self.instance)
            except LastOwnerError as error:
                raise ValidationError(str(error)) from error
        return is_active


class PasswordForm(_PasswordForm):
    """A password for an account, or none."""

    def save(self, commit: bool = True) -> User:
        """The password alone: Django writes all that the account was when the form was read."""
        is_wanted = self.cleaned_data["set_usable_password"]
        password = self.cleaned_data["password1"] if is_wanted else None
        change_password(user=self.user, password=password)
        return self.user


@admin.register(User)
class AccountAdmin(RecordedAdmin, _UserAdmin):
    """Django's own, with each change in the audit log and no project left without an owner."""

    form = AccountForm
    change_password_form = PasswordForm
    list_display = ("username", "first_name", "last_name", "email", "is_staff", "last_login")
    list_filter = ("is_active", "is_staff", "is_superuser", "groups", "last_login")
    search_help_text = "A part of the user name, the name or the email address"
    inlines = (MembershipsInline, ApiTokensInline)
    # Written by signing in, also while this form is open.
    readonly_fields = ("last_login",)

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        return () if obj is None else self.inlines

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        fields = super().get_readonly_fields(request, obj)
        return fields if request.user.is_superuser else (*fields, *RIGHTS)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        is_open = obj is None or _is_within_reach(request, obj)
        return super().has_change_permission(request, obj) and is_open

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        is_open = obj is None or _is_within_reach(request, obj)
        return super().has_delete_permission(request, obj) and is_open

    def before_deletion(self, request: HttpRequest, rows: QuerySet[User]) -> None:
        *_, lacking, protected = self.get_deleted_objects(rows, request)
        if not lacking and not protected:  # or else Django refuses it
            let_go(list(rows))

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        remove_users([obj])

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        remove_users(list(queryset))


def _is_within_reach(request: HttpRequest, account: User) -> bool:
    """Whether it may do nothing that `request` may not: with a new password it is taken over."""
    by = cast("User", request.user)
    if by.is_superuser or account.is_superuser:
        return by.is_superuser
    # Of an inactive account Django says that it has none; it can be made active again.
    own = _rights_of(by)
    has_more = _rights_of(account).exclude(pk__in=own.values("pk")).exists()
    return not has_more and not has_role_above(account, by)


def _rights_of(account: User) -> QuerySet[Permission]:
    return Permission.objects.filter(Q(user=account) | Q(group__user=account))


@admin.register(Group)
class AccountGroupAdmin(RecordedAdmin, GroupAdmin):
    """Which rights in the admin its members have. Superusers alone give those."""

    search_help_text = "A part of its name"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_superuser)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)


def _is_address(text: str) -> bool:
    try:
        validate_ipv46_address(text)
    except ValidationError:
        return False
    return True


class _VerbFilter(admin.SimpleListFilter):
    """Every verb there is: Django's own filter reads the whole log to find those that occur."""

    title = parameter_name = "verb"
    words: type[TextChoices] = Verb

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[Any, str]]:
        return sorted(self.words.choices, key=itemgetter(1))

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        return queryset.filter(**{self.title: chosen}) if chosen else queryset


class _KindFilter(_VerbFilter):
    title = parameter_name = "kind"
    words = Kind


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("at", "actor", "way", "verb", "kind", "name", "project", "address")
    list_filter = ("way", _VerbFilter, _KindFilter, "at")
    search_fields = ("actor", "name", "address")
    search_help_text = "A user name, an object's name or an address, in full"

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """By what indexes serve, each in its own way: the log has no end."""
        text = search_term.strip()
        if not text:
            return queryset, False
        if "\0" in text:
            return queryset.none(), False
        # Both by the database: on SQLite it makes no small letters of what is not ASCII.
        wanted = Q(actor=text) | Q(small_name=Lower(Value(text)))
        if _is_address(text):
            wanted |= Q(address=text)
        return queryset.alias(small_name=Lower("name")).filter(wanted), False
