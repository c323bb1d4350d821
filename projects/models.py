"""Projects, their members, and the tokens of users."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.validators import MaxValueValidator, RegexValidator
from django.db import models
from django.db.models.functions import Lower

from projects.permissions import ACTIONS_OF, Action, Role
from projects.tokens import digest_of, is_same_digest

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

DIGEST_LENGTH = 64
LAST_USE_RESOLUTION_SECONDS = 60

is_one_line = RegexValidator(r"\A[^\x00-\x1f\x7f]*\Z", "Use one line of printable characters.")


class ProjectQuerySet(models.QuerySet["Project"]):
    def for_user(self, user: User | AnonymousUser) -> ProjectQuerySet:
        """The projects that `user` is a member of; all of them for a superuser."""
        if user.is_superuser:
            return self
        if user.is_anonymous:
            return self.none()
        return self.filter(memberships__user=user)


class Project(models.Model):
    """The tenant: members, templates, runners. The boundary that a runner cannot cross."""

    name = models.CharField(max_length=80, validators=[is_one_line])
    description = models.CharField(max_length=200, blank=True, validators=[is_one_line])
    max_parallel_tasks = models.PositiveIntegerField(
        default=0,
        validators=[MaxValueValidator(10_000)],
        help_text="How many tasks of this project may run at once. 0 means no limit.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ProjectQuerySet.as_manager()

    class Meta:
        ordering = ("name", "id")
        constraints = (models.UniqueConstraint(Lower("name"), name="project_name_unique"),)

    def __str__(self) -> str:
        return self.name

    def role_of(self, user: User | AnonymousUser) -> Role | None:
        """The user's role here. A superuser counts as an owner; None means no member."""
        if user.is_superuser:
            return Role.OWNER
        if user.is_anonymous:
            return None
        membership = self.memberships.filter(user=user).first()
        return Role(membership.role) if membership else None

    def allows(self, user: User | AnonymousUser, action: Action) -> bool:
        """Whether `user` may do `action` in this project."""
        role = self.role_of(user)
        return role is not None and action in ACTIONS_OF[role]


class MembershipQuerySet(models.QuerySet["Membership"]):
    def for_user(self, user: User | AnonymousUser) -> MembershipQuerySet:
        return self.filter(project__in=Project.objects.for_user(user))


class Membership(models.Model):
    """One user's role in one project."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships"
    )
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.VIEWER)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = MembershipQuerySet.as_manager()

    class Meta:
        ordering = ("project", "user")
        constraints = (
            models.UniqueConstraint(fields=("project", "user"), name="membership_unique"),
            models.CheckConstraint(
                condition=models.Q(role__in=Role.values), name="membership_role_known"
            ),
        )

    def __str__(self) -> str:
        return f"{self.user} is {self.role} of {self.project}"


class UserTokenQuerySet(models.QuerySet["UserToken"]):
    def for_user(self, user: User | AnonymousUser) -> UserTokenQuerySet:
        """The user's own, expired ones too. Nobody's are another's business, not a superuser's."""
        return self.none() if user.is_anonymous else self.filter(user=user)

    def valid(self, token: str, *, now: datetime) -> UserToken | None:
        """The unexpired row of this clear-text token, with its active user, or None."""
        digest = digest_of(token)
        unexpired = models.Q(expires_at=None) | models.Q(expires_at__gt=now)
        rows = self.filter(unexpired, digest=digest, user__is_active=True)
        row = rows.select_related("user").first()
        return row if row is not None and is_same_digest(row.digest, digest) else None


class UserToken(models.Model):
    """A user's key to the REST API. Acts with all rights of that user."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens"
    )
    name = models.CharField(max_length=80, validators=[is_one_line])
    digest = models.CharField(max_length=DIGEST_LENGTH, unique=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = UserTokenQuerySet.as_manager()

    class Meta:
        ordering = ("user", "name", "id")

    def __str__(self) -> str:
        return f"{self.name} of {self.user}"

    def is_expired(self, *, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now

    def note_use(self, *, now: datetime) -> None:
        """Remember the use, at most once a minute: not every request is worth a write."""
        last = self.last_used_at
        if last is None or (now - last).total_seconds() >= LAST_USE_RESOLUTION_SECONDS:
            type(self).objects.filter(pk=self.pk).update(last_used_at=now)
