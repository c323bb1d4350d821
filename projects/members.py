"""Who belongs to a project: add, change the role, remove; and the passwords behind them.

Two rules hold whatever page, script or administrator asks: a project keeps an active owner, and
nobody gives, changes or takes away a role above their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth import get_user_model
from django.db import transaction

from projects.audit.entry import Verb
from projects.audit.recording import record, record_saved, snapshot
from projects.errors import (
    AlreadyMemberError,
    ForgeError,
    LastOwnerError,
    PasswordMeanwhileError,
    RoleAboveOwnError,
    UnknownUserError,
)
from projects.models import Membership, Project
from projects.permissions import Role
from projects.versions import require_version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.contrib.auth.models import User


def add_member(*, project: Project, user_name: str, role: Role, by: User) -> Membership:
    """Give the account called `user_name` a role in the project.

    Raises UnknownUserError, AlreadyMemberError and RoleAboveOwnError.
    """
    user = get_user_model().objects.filter(username=user_name, is_active=True).first()
    if user is None:
        raise UnknownUserError(user_name)
    with transaction.atomic():
        _hold(project)
        _demand_rank(project, by, role)
        if project.memberships.filter(user=user).exists():
            raise AlreadyMemberError(user_name, str(project))
        membership = Membership.objects.create(project=project, user=user, role=role)
        record_saved(membership, None)
    return membership


def change_role(*, membership: Membership, role: Role, by: User, version: str = "") -> Membership:
    """Raises LastOwnerError, RoleAboveOwnError, Membership.DoesNotExist if it is gone, and
    ChangedMeanwhileError if what is stored is not of this version.
    """
    with transaction.atomic():
        _hold(membership.project)
        require_version(membership, version)
        stored = Membership.objects.select_related("project", "user").get(pk=membership.pk)
        _demand_rank(stored.project, by, role, Role(stored.role))
        if role != Role.OWNER:
            _demand_another_owner(stored)
        before = snapshot(stored)
        stored.role = role
        stored.save(update_fields=["role"])
        record_saved(stored, before)
    return stored


def remove_member(*, membership: Membership, by: User) -> None:
    """Access ends with the next request. Raises LastOwnerError and RoleAboveOwnError."""
    with transaction.atomic():
        _hold(membership.project)
        stored = Membership.objects.select_related("project", "user").filter(pk=membership.pk)
        row = stored.first()
        if row is None:
            return
        _demand_rank(row.project, by, Role(row.role))
        _demand_another_owner(row)
        record(Verb.REMOVED, row, detail=f"The role was {row.role}.")
        row.delete()


def why_not_removable(*, membership: Membership, by: User) -> ForgeError | None:
    """What `remove_member` would raise now."""
    try:
        _demand_rank(membership.project, by, Role(membership.role))
        _demand_another_owner(membership)
    except ForgeError as error:
        return error
    return None


def change_password(*, user: User, password: str | None, instead_of: str | None = None) -> None:
    """Of an account, and nothing else of it. With None it has none and cannot sign in with one.

    All of its sessions end; whose cookie is to go on, says the caller. What a good password is was
    asked before. instead_of: the hash of the only password that may be replaced, of an active
    account; raises PasswordMeanwhileError for any other.
    """
    with transaction.atomic():
        if instead_of is not None:
            held = get_user_model().objects.select_for_update(no_key=True)
            if not held.filter(pk=user.pk, is_active=True, password=instead_of).exists():
                raise PasswordMeanwhileError
        user.set_password(password)
        user.save(update_fields=["password"])
        record(Verb.CHANGED_PASSWORD, user)


def demand_other_owners(user: User) -> None:
    """Raise LastOwnerError if a project would have no active owner without this account.

    To be called in the transaction that deletes the account or makes it inactive.
    """
    hold_projects_of([user])
    for membership in Membership.objects.filter(user=user).select_related("project", "user"):
        _demand_another_owner(membership)


def hold_projects_of(users: Sequence[User]) -> list[int]:
    """Lock all projects of these accounts, in the order in which everybody locks several.

    Returns their numbers. To be called in a transaction.
    """
    found = Membership.objects.filter(user__in=users).order_by().values("project_id")
    rows = Project.objects.filter(pk__in=found).order_by("pk")
    return list(rows.select_for_update(no_key=True).values_list("pk", flat=True))


def has_role_above(user: User, other: User) -> bool:
    """Whether a project gives `user`, active or not, a role above what it gives `other`."""
    roles = dict(other.memberships.order_by().values_list("project_id", "role"))
    return any(
        Role(role).is_above(Role(roles[project]) if project in roles else None)
        for project, role in user.memberships.order_by().values_list("project_id", "role")
    )


def _hold(project: Project) -> None:
    """Lock the project, so that two owners cannot remove each other at once.

    Without its key: tasks and whatever else refers to the project can be made meanwhile.
    """
    Project.objects.select_for_update(no_key=True).order_by().get(pk=project.pk)


def _demand_rank(project: Project, by: User, *roles: Role) -> None:
    own = project.role_of(by)
    for role in roles:
        if role.is_above(own):
            raise RoleAboveOwnError(role.label.lower(), own.label.lower() if own else "")


def _demand_another_owner(membership: Membership) -> None:
    """Nothing for a member who is none."""
    if membership.role != Role.OWNER:
        return
    owners = membership.project.memberships.filter(role=Role.OWNER, user__is_active=True)
    if not owners.exclude(pk=membership.pk).exists():
        raise LastOwnerError(membership.user.get_username(), str(membership.project))
