"""What people do with projects and tokens."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from django.db import IntegrityError, transaction

from projects.errors import ProjectNameTakenError
from projects.models import Membership, Project, UserToken
from projects.permissions import Role
from projects.tokens import USER_PREFIX, digest_of, new_token

if TYPE_CHECKING:
    from django.contrib.auth.models import User


@dataclass(frozen=True)
class NewUserToken:
    """A token's row and its clear text, which exists only here."""

    row: UserToken
    token: str


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


def create_user_token(*, user: User, name: str, expires_at: datetime | None) -> NewUserToken:
    """A new API token of `user`; the clear text is in the answer and nowhere else."""
    token = new_token(USER_PREFIX)
    row = UserToken(user=user, name=name, digest=digest_of(token), expires_at=expires_at)
    row.full_clean()
    row.save()
    return NewUserToken(row, token)
