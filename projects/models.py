"""Projects, their members, and the tokens of users."""

from __future__ import annotations

import json
import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, RegexValidator
from django.db import models
from django.db.models.functions import Lower
from django.utils.deconstruct import deconstructible

from projects.audit.entry import AuditEntry as AuditEntry  # where Django looks for models
from projects.characters import UNSEEN_IN_NAMES
from projects.encryption import Sealed, SealedField
from projects.errors import SecretsKeyError, SecretUnreadableError
from projects.permissions import ACTIONS_OF, Action, Role
from projects.single import single
from projects.tokens import digest_of
from projects.variables import is_shared_environment, is_shared_variable_name

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

DIGEST_LENGTH = 64
LAST_USE_RESOLUTION_SECONDS = 60


@deconstructible(path="django.core.validators.RegexValidator")
class OneLineValidator(RegexValidator):
    """One line on which every character can be seen.

    Migrations know it as the plain validator that it extends, so that a stricter rule about
    characters needs none.
    """

    def __call__(self, value: Any) -> None:
        super().__call__(value)
        if UNSEEN_IN_NAMES.search(str(value)):
            raise ValidationError(
                "It holds a character that nobody can see, or tell from another. Type it by hand."
            )


is_one_line = OneLineValidator(r"\A[^\x00-\x1f\x7f]*\Z", "Use one line of printable characters.")


class ProjectQuerySet(models.QuerySet["Project"]):
    def for_user(self, user: User | AnonymousUser) -> ProjectQuerySet:
        """The projects that `user` is a member of; all of them for a superuser."""
        if user.is_superuser:
            return self
        if user.is_anonymous:
            return self.none()
        return self.filter(memberships__user=user)

    def allowing(self, user: User | AnonymousUser, action: Action) -> ProjectQuerySet:
        """The projects where the role of `user` allows `action`; all of them for a superuser."""
        if user.is_superuser:
            return self
        if user.is_anonymous:
            return self.none()
        roles = [role for role, actions in ACTIONS_OF.items() if action in actions]
        return self.filter(memberships__user=user, memberships__role__in=roles)


MAXIMUM_PARALLEL_TASKS = 10_000


class Project(models.Model):
    """The tenant: members, templates, runners. The boundary that a runner cannot cross."""

    name = models.CharField(max_length=80, validators=[is_one_line])
    description = models.CharField(max_length=200, blank=True, validators=[is_one_line])
    max_parallel_tasks = models.PositiveIntegerField(
        default=0,
        validators=[MaxValueValidator(MAXIMUM_PARALLEL_TASKS)],
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
        membership = single(self.memberships.filter(user=user))
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
        unexpired = models.Q(expires_at=None) | models.Q(expires_at__gt=now)
        rows = self.filter(unexpired, digest=digest_of(token), user__is_active=True)
        return single(rows.select_related("user"))


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


class Sealing(models.Model):
    """What rows with a secret have in common."""

    class Meta:
        abstract = True

    def open(self) -> object:
        raise NotImplementedError

    @property
    def problem(self) -> str:
        """Why the secret cannot be read, in a sentence; empty if it can."""
        try:
            self.open()
        except (SecretsKeyError, SecretUnreadableError) as error:
            return str(error)
        return ""


class AccessKeyQuerySet(models.QuerySet["AccessKey"]):
    def for_user(self, user: User | AnonymousUser) -> AccessKeyQuerySet:
        """The access keys of the projects that `user` may see."""
        return self.filter(project__in=Project.objects.for_user(user))


class AccessKey(Sealing):
    """A credential of a project. Its secret can be replaced and used, never read back."""

    class Kind(models.TextChoices):
        SSH = "ssh", "SSH key"
        LOGIN_PASSWORD = "login_password", "Login with password"
        STRING = "string", "Secret text"
        NONE = "none", "None"

    # What the secret of each kind is made of.
    PARTS: ClassVar[dict[str, tuple[str, ...]]] = {
        Kind.SSH: ("private_key", "passphrase"),
        Kind.LOGIN_PASSWORD: ("password",),
        Kind.STRING: ("value",),
        Kind.NONE: (),
    }
    ALL_PARTS = tuple(part for parts in PARTS.values() for part in parts)
    OPTIONAL_PARTS = frozenset({"passphrase"})
    KINDS_WITH_LOGIN = frozenset({Kind.SSH, Kind.LOGIN_PASSWORD})

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="access_keys")
    name = models.CharField(max_length=80, validators=[is_one_line])
    kind = models.CharField(max_length=20, choices=Kind.choices)
    login = models.CharField(max_length=200, blank=True, validators=[is_one_line])
    secret = SealedField(null=True, editable=False)
    # Names the row in what is sealed, also before the row has its number.
    seal_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    secret_changed_at = models.DateTimeField(null=True, editable=False)

    objects = AccessKeyQuerySet.as_manager()

    class Meta:
        ordering = ("project", "name")
        constraints = (
            models.UniqueConstraint("project", Lower("name"), name="access_key_name_unique"),
            models.CheckConstraint(
                condition=models.Q(kind__in=("ssh", "login_password", "string", "none")),
                name="access_key_kind_known",
            ),
            models.CheckConstraint(
                condition=models.Q(kind="none", secret=None)
                | ~models.Q(kind="none") & models.Q(secret__isnull=False),
                name="access_key_has_its_secret",
            ),
            models.CheckConstraint(
                condition=models.Q(kind__in=("ssh", "login_password")) | models.Q(login=""),
                name="access_key_login_fits_kind",
            ),
        )

    def __str__(self) -> str:
        return self.name

    @property
    def place(self) -> str:
        """Where its secret belongs, as written into what is sealed."""
        return f"access-key/{self.project_id}/{self.seal_id}"

    @property
    def needs_login(self) -> bool:
        return self.kind in self.KINDS_WITH_LOGIN

    def seal(self, parts: dict[str, str], *, now: datetime) -> None:
        """Set the secret of this object, unsaved. Raises SecretsKeyError."""
        self.secret = Sealed.seal(json.dumps(parts), self.place)
        self.secret_changed_at = now

    def open(self) -> dict[str, str]:
        """The parts of the secret. Raises SecretsKeyError and SecretUnreadableError."""
        if self.secret is None:
            return {}
        parts: dict[str, str] = json.loads(
            self.secret.open(self.place, f"the access key {self.name}")
        )
        return parts


class VariableGroupQuerySet(models.QuerySet["VariableGroup"]):
    def for_user(self, user: User | AnonymousUser) -> VariableGroupQuerySet:
        """The variable groups of the projects that `user` may see."""
        return self.filter(project__in=Project.objects.for_user(user))


class VariableGroup(models.Model):
    """Variables that templates share, some of them secret."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="variable_groups")
    name = models.CharField(max_length=80, validators=[is_one_line])
    description = models.CharField(max_length=200, blank=True, validators=[is_one_line])
    variables = models.JSONField(default=dict, blank=True, validators=[is_shared_environment])
    created_at = models.DateTimeField(auto_now_add=True)

    objects = VariableGroupQuerySet.as_manager()

    class Meta:
        ordering = ("project", "name")
        constraints = (
            models.UniqueConstraint("project", Lower("name"), name="variable_group_name_unique"),
        )

    def __str__(self) -> str:
        return self.name

    @property
    def secret_names(self) -> list[str]:
        return [secret.name for secret in self.secrets.all()]

    @property
    def problem(self) -> str:
        """Why one of its secrets cannot be read, in a sentence; empty if all can."""
        return next(filter(None, (secret.problem for secret in self.secrets.all())), "")

    @property
    def names(self) -> list[str]:
        """All names that it sets, plain ones first."""
        return [*self.variables, *self.secret_names]


class SecretVariable(Sealing):
    """One secret of a variable group; it can be replaced and used, never read back."""

    group = models.ForeignKey(VariableGroup, on_delete=models.CASCADE, related_name="secrets")
    name = models.CharField(max_length=100, validators=[is_shared_variable_name])
    secret = SealedField(editable=False)
    changed_at = models.DateTimeField(editable=False)

    class Meta:
        ordering = ("group", "name")
        constraints = (
            models.UniqueConstraint(fields=("group", "name"), name="secret_variable_name_unique"),
        )

    def __str__(self) -> str:
        return f"{self.name} of {self.group}"

    @property
    def place(self) -> str:
        """Where it belongs, as written into what is sealed."""
        return f"variable/{self.group.project_id}/{self.group_id}/{self.name}"

    def seal(self, text: str, *, now: datetime) -> None:
        """Set the value of this object, unsaved. Raises SecretsKeyError."""
        self.secret = Sealed.seal(text, self.place)
        self.changed_at = now

    def open(self) -> str:
        """The value. Raises SecretsKeyError and SecretUnreadableError."""
        sealed: Sealed = self.secret
        return sealed.open(self.place, f"the variable {self.name} of {self.group.name}")
