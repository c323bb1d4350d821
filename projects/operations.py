"""What people do with projects and tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from projects.errors import ProjectNameTakenError, TooManyUserTokensError
from projects.models import Membership, Project, UserToken
from projects.permissions import Role
from projects.tokens import USER_PREFIX, digest_of, new_token

if TYPE_CHECKING:
    from django.contrib.auth.models import User

MAXIMUM_USER_TOKENS = 50


@dataclass(frozen=True)
class NewUserToken:
    """A token's row and its clear text, which exists only here."""

    row: UserToken
    token: str = field(repr=False)


def create_project(*, name: str, description: str, owner: User, now: datetime) -> Project:
    """A new project with `owner` as its first member. Raises ProjectNameTakenError."""
    project = Project(name=name, description=description, created_at=now)
    project.clean_fields()
    try:
        with transaction.atomic():
            project.save()
            Membership.objects.create(project=project, user=owner, role=Role.OWNER)
    except IntegrityError as error:
        raise ProjectNameTakenError(name) from error
    return project


def create_user_token(
    *,
    user: User,
    name: str,
    expires_at: datetime | None,
    now: datetime,
    by: UserToken | None = None,
) -> NewUserToken:
    """A new API token of `user`; the clear text is in the answer and nowhere else.

    `by` is the token that asks for it, if it is one: what a stolen token makes must not outlive
    it. Raises ValidationError and TooManyUserTokensError.
    """
    _check_end(expires_at, by, now=now)
    token = new_token(USER_PREFIX)
    row = UserToken(user=user, name=name, digest=digest_of(token), expires_at=expires_at)
    row.full_clean()
    with transaction.atomic():
        # Locked, so that two requests at once do not both take the last place.
        get_user_model().objects.select_for_update().get(pk=user.pk)
        if UserToken.objects.for_user(user).count() >= MAXIMUM_USER_TOKENS:
            raise TooManyUserTokensError(MAXIMUM_USER_TOKENS)
        row.save()
    return NewUserToken(row, token)


def _check_end(expires_at: datetime | None, by: UserToken | None, *, now: datetime) -> None:
    """Raises ValidationError for a token that has ended already or would outlive its maker."""
    if expires_at is not None and expires_at <= now:
        raise ValidationError({"expires_at": "Choose a time in the future."})
    limit = by.expires_at if by is not None else None
    if limit is not None and (expires_at is None or expires_at > limit):
        raise ValidationError(
            {
                "expires_at": f"The token that you are using ends at {limit.isoformat()}, and one "
                "that is made with it may not outlive it. Sign in to make one that lasts longer."
            }
        )


def revoke_user_token(*, token: UserToken) -> None:
    """It opens nothing from now on. The row goes: no history points at it."""
    token.delete()
