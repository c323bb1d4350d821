"""The Django admin of projects, members and API tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from django import forms
from django.contrib import admin
from django.utils import timezone

from projects.admin_bases import (
    SEARCH_WARNING,
    OperationAdmin,
    PagedAdmin,
    ProjectFilter,
    TokenAdmin,
)
from projects.admin_fields import AutocompleteAdmin
from projects.admin_inlines import ShownInline, linked
from projects.members import add_member, change_role, remove_member
from projects.models import Membership, Project, UserToken
from projects.operations import create_project, create_user_token, revoke_user_token
from projects.permissions import Role

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse

    TabularInline = admin.TabularInline[Any, Any]
    BaseInlineFormSet = forms.BaseInlineFormSet[Any, Any, Any]
else:
    # Django's own classes cannot be subscripted at run time.
    TabularInline = admin.TabularInline
    BaseInlineFormSet = forms.BaseInlineFormSet


# So many members can be changed in the form of their project.
FORMS_OF_MEMBERS = 50
# By what people are known.
PERSON = ("user__username", "user__first_name", "user__last_name", "user__email")


class MembershipForms(BaseInlineFormSet):
    """Rows without labels: each field says by itself what it is."""

    def add_fields(self, form: Any, index: int | None) -> None:
        super().add_fields(form, index)
        if form.instance.pk and "user" in form.fields:
            # Read with the rows; a widget would ask for each by itself.
            user = form.instance.user
            form.fields["user"].widget.widget.known = {str(user.pk): str(user)}
        if "role" in form.fields:
            # Who is given another role meanwhile keeps it, unless it is changed here, too.
            form.fields["role"].show_hidden_initial = True
        for name, words in (("role", "Role"), ("DELETE", "Remove")):
            if name in form.fields:
                form.fields[name].widget.attrs["aria-label"] = words


class MembershipInline(AutocompleteAdmin, TabularInline):
    """Saved by the project's admin, through the operations for members."""

    model = Membership
    formset = MembershipForms
    extra = 0
    autocomplete_fields = ("user",)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("created_at",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        return super().get_queryset(request).select_related("user", "project")


class MembersInline(ShownInline):
    """Those of a project that has too many for a form. Each is changed in the form of its own."""

    model = Membership
    fields = ("member", "role", "created_at")
    list_select_related = ("user", "project")
    ordering = ("pk",)
    all_by = "project__id__exact"

    @admin.display(description="member")
    def member(self, membership: Membership) -> str:
        return linked(membership, membership.user.get_username())


@admin.register(Project)
class ProjectAdmin(PagedAdmin, OperationAdmin):
    page = "project"
    list_display = ("name", "description", "max_parallel_tasks", "created_at")
    search_fields = ("name", "description")
    search_help_text = "A part of its name or description"
    list_filter = ("created_at",)
    date_hierarchy = "created_at"
    readonly_fields = ("created_at",)
    inlines: ClassVar[Any] = (MembershipInline, MembersInline)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        new = ("name", "description")
        return new if obj is None else (*new, "max_parallel_tasks", "created_at")

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        """A new project has whoever creates it as its owner; the others come after."""
        if obj is None:
            return ()
        if request.method == "POST":
            # What was sent is what the form had when it was drawn.
            has_forms = "memberships-TOTAL_FORMS" in request.POST
        else:
            has_forms = len(obj.memberships.order_by()[: FORMS_OF_MEMBERS + 1]) <= FORMS_OF_MEMBERS
        unused = MembersInline if has_forms else MembershipInline
        return [inline for inline in self.inlines if inline is not unused]

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
    search_fields = (*PERSON, "project__name")
    search_help_text = (
        "A part of a person's name, user name or email address, or of a project's name"
    )
    autocomplete_fields = ("user", "project")
    date_hierarchy = "created_at"

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return () if obj is None else ("user", "project", "created_at")

    def create(self, request: HttpRequest, obj: Any, form: Any) -> None:
        _add(obj, cast("User", request.user))

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change:
            self.create(request, obj, form)
            return
        by, version = cast("User", request.user), self.version(request)
        change_role(membership=obj, role=Role(obj.role), by=by, version=version)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        remove_member(membership=obj, by=cast("User", request.user))


@admin.register(UserToken)
class UserTokenAdmin(TokenAdmin):
    actions = ("revoke",)
    offers_deletion = False
    list_display = ("name", "user", "created_at", "expires_at", "last_used_at")
    list_filter = ("created_at", "expires_at", "last_used_at")
    list_select_related = ("user",)
    search_fields = ("name", *PERSON)
    search_help_text = (
        f"A part of its name, or of its user's name or email address. {SEARCH_WARNING}"
    )
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

    @admin.action(description="Revoke selected API tokens", permissions=["delete"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[UserToken]) -> HttpResponse | None:
        """Ask, then revoke."""
        tokens = self.chosen(request, queryset)
        if not tokens:
            return None
        if "sure" not in request.POST:
            asked: dict[str, Any] = {"title": "Revoke API tokens", "button": "Revoke"}
            template = "admin/revoke_user_tokens.html"
            return self.ask(request, tokens, template=template, is_grave=True, **asked)
        unless = "they were revoked before"
        self.act(
            request, tokens, lambda row: revoke_user_token(token=row), done="Revoked", unless=unless
        )
        return None

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        revoke_user_token(token=obj)
