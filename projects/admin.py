"""The Django admin of projects, members and API tokens, and what all admins of Forge share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone

from projects.audit.recording import record_saved, snapshot
from projects.errors import ForgeError
from projects.members import add_member, change_role, remove_member
from projects.models import Membership, Project, UserToken
from projects.operations import create_project, create_user_token, revoke_user_token
from projects.pagination import BoundedPaginator
from projects.permissions import Role

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.contrib.auth.models import User
    from django.db.models import Model, QuerySet

    ModelAdmin = admin.ModelAdmin[Any]
    TabularInline = admin.TabularInline[Any, Any]
else:
    # Django's own classes cannot be subscripted at run time.
    ModelAdmin = admin.ModelAdmin
    TabularInline = admin.TabularInline


ONCE_SHOWN = "admin/new_token.html"


# Fields whose values nobody is shown, and nobody may guess letter by letter with a filter.
UNSEEN_FIELDS = frozenset({"digest", "nonce", "session", "instance", "secret", "password"})


# A filter that offers more is a list of its own; the search finds them by name.
OFFERED_PROJECTS = 20


class ProjectFilter(admin.RelatedFieldListFilter):
    """Offers the first projects by name, and the one that is chosen."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> Any:
        rows = Project.objects.order_by("name").values_list("pk", "name")
        found = dict(rows[:OFFERED_PROJECTS])
        value: Any = self.lookup_val
        chosen = str(value[-1] if isinstance(value, list) and value else value or "")
        if chosen.isascii() and chosen.isdigit() and int(chosen) not in found:
            found |= dict(rows.filter(pk=chosen[:18]))
        return list(found.items())


class DiscreetAdmin(ModelAdmin):
    """Answers no question about what it does not show, and counts no list to its end."""

    paginator = BoundedPaginator
    show_full_result_count = False

    def lookup_allowed(self, lookup: str, value: Any, request: Any = None) -> bool:
        """Django allows every lookup on a model's own fields, `digest__startswith` among them."""
        if UNSEEN_FIELDS & set(lookup.split("__")):
            return False
        return bool(super().lookup_allowed(lookup, value, request))


class RefusingAdmin(ModelAdmin):
    """Shows the errors of operations as sentences, on the page where they were asked for."""

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        here = request.get_full_path()
        return self._refused(request, here, super().changeform_view, *args, **kwargs)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> Any:
        view = super().delete_view
        return self._refused(request, self._list(), view, object_id, extra_context)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        return self._refused(request, self._list(), super().changelist_view, extra_context)

    def _list(self) -> str:
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")

    def _refused(
        self, request: HttpRequest, place: str, view: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """The view's answer, or its refusal as a message at `place`."""
        try:
            return view(request, *args, **kwargs)
        except (ForgeError, ValidationError) as error:
            for sentence in getattr(error, "messages", [str(error)]):
                self.message_user(request, sentence, messages.ERROR)
            return HttpResponseRedirect(place)


class OperationAdmin(RefusingAdmin, DiscreetAdmin):
    """Changes rows through operations, or as they do: with a record in the same transaction."""

    def save_model(self, request: HttpRequest, obj: Model, form: Any, change: bool) -> None:
        if change:
            with transaction.atomic():
                before = snapshot(obj)
                self.save_changes(request, obj, form)
                record_saved(obj, before)
        else:
            self.create(request, obj, form)

    def save_changes(self, request: HttpRequest, obj: Any, form: Any) -> None:
        """Only what was edited: the rest of the row may have moved on since it was read."""
        obj.save(update_fields=[name for name in form.changed_data if name in form.fields])

    def create(self, request: HttpRequest, obj: Any, form: Any) -> None:
        obj.save()


class ReadOnlyAdmin(DiscreetAdmin):
    """Rows that Forge alone writes: an edit would break a rule."""

    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class RemovableAdmin(OperationAdmin):
    """Rows that are removed by an operation which hides them; history keeps pointing at them."""

    def remove(self, request: HttpRequest, obj: Any) -> None:
        raise NotImplementedError

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        self.remove(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for row in queryset:
            self.remove(request, row)

    def get_deleted_objects(self, objs: Iterable[Any], request: HttpRequest) -> Any:
        """Nothing else goes with them, so nothing stands in the way."""
        names = [str(row) for row in objs]
        return names, {str(self.opts.verbose_name_plural): len(names)}, set(), []

    def is_present(self, obj: Any) -> bool:
        """Whether it was not removed before."""
        return obj.removed_at is None

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        is_there = obj is None or self.is_present(obj)
        return super().has_change_permission(request, obj) and is_there

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        is_there = obj is None or self.is_present(obj)
        return super().has_delete_permission(request, obj) and is_there


class TokenAdmin(OperationAdmin):
    """Rows with a token. The page that answers the creation shows it, and nothing else does.

    It goes from the operation into that answer, past sessions, cookies and the database.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._tokens: WeakKeyDictionary[HttpRequest, str] = WeakKeyDictionary()

    def keep_token(self, request: HttpRequest, token: str) -> None:
        """Remember the token until this request is answered."""
        self._tokens[request] = token

    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: str | None = None
    ) -> HttpResponse:
        title = f"{self.opts.verbose_name} {obj} was created".capitalize()
        return self.show_token(request, obj, self._tokens.pop(request), title)

    def show_token(
        self, request: HttpRequest, obj: Any, token: str, title: str, **more: Any
    ) -> HttpResponse:
        """The page with the token, which nobody else may keep."""
        context = {
            **self.admin_site.each_context(request),
            **self.token_context(),
            "title": title,
            "opts": self.opts,
            "object": obj,
            "token": token,
            **more,
        }
        answer = TemplateResponse(request, ONCE_SHOWN, context)
        answer["Cache-Control"] = "no-store"
        return answer

    def token_context(self) -> dict[str, str]:
        """What the page says besides the token; `way` chooses the words of the template."""
        return {"way": "header"}


class MembershipInline(TabularInline):
    """Saved by the project's admin, through the operations for members."""

    model = Membership
    extra = 0
    autocomplete_fields = ("user",)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("created_at",)


@admin.register(Project)
class ProjectAdmin(OperationAdmin):
    list_display = ("name", "description", "max_parallel_tasks", "created_at")
    search_fields = ("name", "description")
    date_hierarchy = "created_at"
    readonly_fields = ("created_at",)
    inlines = (MembershipInline,)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        new = ("name", "description")
        return new if obj is None else (*new, "max_parallel_tasks", "created_at")

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        """A new project has whoever creates it as its owner; the others come after."""
        return () if obj is None else self.inlines

    def create(self, request: HttpRequest, obj: Any, form: Any) -> None:
        given = {"name": obj.name, "description": obj.description}
        created = create_project(**given, owner=cast("User", request.user), now=timezone.now())
        obj.pk, obj.created_at = created.pk, created.created_at

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        by = cast("User", request.user)
        formset.save(commit=False)
        for row in formset.deleted_objects:
            remove_member(membership=row, by=by)
        for row, _ in formset.changed_objects:
            change_role(membership=row, role=Role(row.role), by=by)
        for row in formset.new_objects:
            _add(row, by)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Runners' accounts and tasks would be left behind: there is no operation for it yet."""
        return False


def _add(row: Membership, by: User) -> None:
    name, role = row.user.get_username(), Role(row.role)
    row.pk = add_member(project=row.project, user_name=name, role=role, by=by).pk


@admin.register(Membership)
class MembershipAdmin(OperationAdmin):
    list_display = ("user", "project", "role", "created_at")
    list_filter = ("role", ("project", ProjectFilter))
    list_select_related = ("user", "project")
    search_fields = ("user__username", "user__email", "project__name")
    autocomplete_fields = ("user", "project")
    date_hierarchy = "created_at"

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return () if obj is None else ("user", "project", "created_at")

    def create(self, request: HttpRequest, obj: Any, form: Any) -> None:
        _add(obj, cast("User", request.user))

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change:
            self.create(request, obj, form)
        else:
            change_role(membership=obj, role=Role(obj.role), by=cast("User", request.user))

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        remove_member(membership=obj, by=cast("User", request.user))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        with transaction.atomic():
            for row in queryset:
                self.delete_model(request, row)


@admin.register(UserToken)
class UserTokenAdmin(TokenAdmin):
    list_display = ("name", "user", "created_at", "expires_at", "last_used_at")
    list_filter = ("created_at", "expires_at", "last_used_at")
    list_select_related = ("user",)
    search_fields = ("name", "user__username")
    autocomplete_fields = ("user",)
    date_hierarchy = "created_at"

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is not None:
            return ("user", "name", "created_at", "expires_at", "last_used_at")
        # Whoever could make a token for somebody else could act as that user.
        may_choose = request.user.is_authenticated and request.user.is_superuser
        return ("user", "name", "expires_at") if may_choose else ("name", "expires_at")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return () if obj is None else ("user", "created_at", "last_used_at")

    def create(self, request: HttpRequest, obj: Any, form: Any) -> None:
        if obj.user_id is None:
            obj.user = request.user
        given = {"name": obj.name, "expires_at": obj.expires_at}
        new = create_user_token(user=obj.user, now=timezone.now(), **given)
        obj.pk = new.row.pk
        self.keep_token(request, new.token)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        revoke_user_token(token=obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        with transaction.atomic():
            for row in queryset:
                revoke_user_token(token=row)
