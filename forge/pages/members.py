"""The members of a project: list, add, one member, change the role, remove."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from forge.pages.access import demand, project_for, signed_in
from forge.pages.audit_words import trail_of
from forge.pages.member_form import MemberForm, RoleForm
from forge.pages.shell import page
from projects.audit.entry import Kind
from projects.errors import ForgeError
from projects.members import add_member, change_role, remove_member, why_not_removable
from projects.models import Membership, UserToken
from projects.permissions import Action, Role
from projects.words import counted, number
from runners.models import RegistrationToken, RunnerToken
from runners.status import RegistrationStatus
from tasks.models import Task

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from projects.models import Project


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def members(request: HttpRequest, pk: int) -> HttpResponse:
    """The list, for every member; for owners with the form that adds one."""
    project = project_for(request, pk)
    if request.method == "POST":
        demand(request, project, Action.MEMBER_CHANGE)
    form = MemberForm(request.POST if request.method == "POST" else None)
    if form.is_valid() and (added := _added(request, project, form)):
        name, role = added.user.get_username(), Role(added.role).label.lower()
        messages.success(request, f"Added {name} as {role}.")
        return redirect("members", project.pk)
    rows = _sorted(project)
    context = {"rows": rows, "sentence": _sentence(rows), "form": form}
    answer = _page(request, "members.html", project, **context)
    answer.status_code = 400 if form.errors else 200
    return answer


def _page(request: HttpRequest, name: str, project: Project, **told: Any) -> HttpResponse:
    told |= {"may_change_members": project.allows(request.user, Action.MEMBER_CHANGE)}
    return page(request, name, project=project, section="members", **told)


def _added(request: HttpRequest, project: Project, form: MemberForm) -> Membership | None:
    given = form.cleaned_data
    name, role = given["user_name"], Role(given["role"])
    try:
        return add_member(project=project, user_name=name, role=role, by=signed_in(request))
    except ForgeError as error:
        form.add_error("user_name", str(error))
    return None


def _sorted(project: Project) -> list[Membership]:
    """Owners first, then by name."""
    order = list(Role.values)
    rows = Membership.objects.filter(project=project).select_related("user")
    return sorted(rows, key=lambda row: (order.index(row.role), row.user.get_username().lower()))


def _sentence(rows: list[Membership]) -> str:
    counts = {role: sum(1 for row in rows if row.role == role) for role in Role}
    parts = [counted(count, role.label.lower()) for role, count in counts.items() if count]
    people = f"{number(len(rows))} {'person' if len(rows) == 1 else 'people'}"
    return f"{people}: {', '.join(parts)}." if rows else "Nobody yet."


def _member_for(request: HttpRequest, pk: int) -> Membership:
    rows = Membership.objects.for_user(request.user).select_related("project", "user")
    row = get_object_or_404(rows, pk=pk)
    demand(request, row.project, Action.MEMBER_CHANGE)
    return row


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def member(request: HttpRequest, pk: int) -> HttpResponse:
    """One member, the role to change, and what was done to the membership. For owners."""
    row = _member_for(request, pk)
    form = RoleForm(request.POST if request.method == "POST" else None, initial={"role": row.role})
    if form.is_valid() and _is_changed(request, row, form):
        messages.success(request, f"{row.user.get_username()} has another role now.")
        return redirect("members", row.project_id)
    context = {"row": row, "form": form, "trail": trail_of(request.user, Kind.MEMBER, row.pk)}
    answer = _page(request, "member.html", row.project, **context)
    answer.status_code = 400 if form.errors else 200
    return answer


def _is_changed(request: HttpRequest, row: Membership, form: RoleForm) -> bool:
    try:
        change_role(membership=row, role=Role(form.cleaned_data["role"]), by=signed_in(request))
    except ForgeError as error:
        form.add_error("role", str(error))
        return False
    return True


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def remove(request: HttpRequest, pk: int) -> HttpResponse:
    """What removing the member leads to and what it leaves, and the removal."""
    row = _member_for(request, pk)
    name = row.user.get_username()
    if request.method == "POST":
        try:
            remove_member(membership=row, by=signed_in(request))
        except ForgeError as error:
            messages.error(request, str(error))
            return redirect("member", row.pk)
        left = "As an administrator they can still open every project."
        if not row.user.is_superuser:
            left = "Nothing of this project is open to them now."
        messages.success(request, f"Removed {name}. {left}")
        return redirect("members", row.project_id)
    if refusal := why_not_removable(membership=row, by=signed_in(request)):
        messages.error(request, str(refusal))
        return redirect("member", row.pk)
    return _page(request, "member_remove.html", row.project, row=row, left=_left_by(row))


@dataclass(frozen=True)
class Left:
    """What of a member's doing goes on after the removal."""

    tasks: int
    registrations: int
    runners: int
    api_tokens: int

    @property
    def knows_tokens(self) -> bool:
        return bool(self.registrations or self.runners)


def _left_by(row: Membership) -> Left:
    now, project, user = timezone.now(), row.project, row.user
    registrations = RegistrationToken.objects.filter(project=project, created_by=user)
    made = RunnerToken.objects.valid(now=now).filter(created_by=user, runner__project=project)
    return Left(
        tasks=Task.objects.filter(project=project, created_by=user).unfinished().count(),
        registrations=[token.status_at(now) for token in registrations].count(
            RegistrationStatus.ACTIVE
        ),
        runners=made.filter(runner__removed_at=None).values("runner").distinct().count(),
        api_tokens=UserToken.objects.for_user(user).count(),
    )
