"""The Django admin of accounts and their groups, and of the audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.db import transaction

from projects.admin import ReadOnlyAdmin, RefusingAdmin
from projects.audit.entry import AuditEntry, Verb
from projects.audit.recording import record, record_saved, snapshot
from projects.members import remove_user

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest

    _UserAdmin = UserAdmin[User]
else:
    _UserAdmin = UserAdmin

admin.site.unregister(User)
admin.site.unregister(Group)


class RecordedAdmin(RefusingAdmin):
    """Rows that no operation of Forge's writes. Django runs all of this in one transaction."""

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        form.before = snapshot(obj) if change else None
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Recorded here, when its links are saved too."""
        super().save_related(request, form, formsets, change)
        record_saved(form.instance, form.before)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        record(Verb.REMOVED, obj)
        obj.delete()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        with transaction.atomic():
            for row in queryset:
                self.delete_model(request, row)


@admin.register(User)
class AccountAdmin(RecordedAdmin, _UserAdmin):
    """Django's own, with each change in the audit log and no project left without an owner."""

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> Any:  # noqa: A002  # Django calls it so
        with transaction.atomic():
            before = User.objects.filter(pk=id).first()
            answer = super().user_change_password(request, id, form_url)
            record_new_password(before)
        return answer

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        remove_user(user=obj)


def record_new_password(before: User | None) -> None:
    """Write down that this account has another password than `before` says, if it has."""
    now = User.objects.filter(pk=before.pk).first() if before else None
    if before is not None and now is not None and now.password != before.password:
        record(Verb.CHANGED_PASSWORD, now)


@admin.register(Group)
class AccountGroupAdmin(RecordedAdmin, GroupAdmin):
    """Which rights in the admin its members have."""


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("at", "actor", "way", "verb", "kind", "name", "project", "address")
    list_filter = ("way", "at")
    search_fields = ("=actor", "=name", "=address", "=verb", "=kind")
