"""Who gets to an object: others' objects are not found, too low a role is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from django.contrib.auth import HASH_SESSION_KEY
from django.core.exceptions import PermissionDenied
from django.shortcuts import get_object_or_404
from django.utils.crypto import constant_time_compare

from projects.models import Project
from projects.permissions import Action, Role

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.http import HttpRequest

_NEEDED = {
    Action.TASK_RUN: "Running tasks",
    Action.TASK_STOP: "Stopping tasks",
    Action.TEMPLATE_CHANGE: "Changing templates",
    Action.RUNNER_CHANGE: "Changing runners",
    Action.CREDENTIAL_CHANGE: "Changing access keys and variable groups",
    Action.MEMBER_CHANGE: "Changing members",
    Action.PROJECT_CHANGE: "Changing the settings",
    Action.AUDIT_VIEW: "Reading the audit log",
}


class RoleTooLowError(PermissionDenied):
    """A member's role does not allow it; another one would."""


def signed_in(request: HttpRequest) -> User:
    """The user of a view behind `login_required`."""
    return cast("User", request.user)


def is_signed_in_still(request: HttpRequest, user: User) -> bool:
    """Whether the session of a request that lasts has neither ended nor outlived the password.

    `user` as it is now in the database. As `django.contrib.auth.get_user` judges, but what is
    found changes nothing: a new key of the session could not reach the browser any more.
    """
    session = type(request.session)(request.session.session_key)
    given = session.get(HASH_SESSION_KEY, "")
    hashes = (user.get_session_auth_hash(), *user.get_session_auth_fallback_hash())
    return any(constant_time_compare(given, one) for one in hashes)


def project_for(request: HttpRequest, pk: int) -> Project:
    return get_object_or_404(Project.objects.for_user(request.user), pk=pk)


def demand(request: HttpRequest, project: Project, action: Action) -> None:
    """Raises RoleTooLowError with the sentence that the refusal shows."""
    if project.allows(request.user, action):
        return
    role = Role(project.role_of(request.user) or Role.VIEWER)
    raise RoleTooLowError(
        f"{_NEEDED.get(action, 'This')} in {project} needs another role. "
        f"Yours is {role.label.lower()}. An owner of the project can give you another."
    )
