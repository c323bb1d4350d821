"""One line of the audit log. Rows are only ever added; the database refuses all else."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

from django.db import models
from django.db.models import Q

from projects.audit.actor import MAXIMUM_NAME, Way
from projects.errors import AuditLogError
from projects.permissions import ACTIONS_OF, Action

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

MAXIMUM_DETAIL = 500


class Verb(models.TextChoices):
    """What was done, in the past tense."""

    CREATED = "created", "Created"
    CHANGED = "changed", "Changed"
    REMOVED = "removed", "Removed"
    PAUSED = "paused", "Paused"
    RESUMED = "resumed", "Resumed"
    DISABLED = "disabled", "Disabled"
    ENABLED = "enabled", "Enabled"
    DRAINED = "drained", "Drained"
    ROTATED = "rotated", "Gave a new token to"
    ENDED_OLDER = "ended_older", "Ended the older tokens of"
    REVOKED = "revoked", "Revoked"
    QUARANTINED = "quarantined", "Cut off"
    LIFTED = "lifted", "Let back"
    RAN = "ran", "Ran"
    APPROVED = "approved", "Approved"
    STOPPED = "stopped", "Stopped"
    STOPPED_ALL = "stopped_all", "Stopped all that waited in"
    FORCE_STOPPED = "force_stopped", "Force-stopped"
    SIGNED_IN = "signed_in", "Signed in"
    SIGN_IN_FAILED = "sign_in_failed", "Failed to sign in"
    SIGNED_OUT = "signed_out", "Signed out"
    CHANGED_PASSWORD = "changed_password", "Changed the password of"
    REENCRYPTED = "reencrypted", "Re-encrypted"


class Kind(models.TextChoices):
    """What it was done to."""

    PROJECT = "project", "Project"
    MEMBER = "member", "Member"
    USER = "user", "User"
    GROUP = "group", "Group of users"
    USER_TOKEN = "user_token", "API token"
    ACCESS_KEY = "access_key", "Access key"
    VARIABLE_GROUP = "variable_group", "Variable group"
    RUNNER = "runner", "Runner"
    REGISTRATION_TOKEN = "registration_token", "Registration token"
    TEMPLATE = "template", "Template"
    TASK = "task", "Task"
    SECRETS = "secrets", "Stored secrets"


class AuditEntryQuerySet(models.QuerySet["AuditEntry"]):
    def for_user(self, user: User | AnonymousUser) -> AuditEntryQuerySet:
        """Entries of the projects where `user` may read the log; all for an administrator."""
        if user.is_superuser:
            return self
        if user.is_anonymous:
            return self.none()
        readers = [role for role, actions in ACTIONS_OF.items() if Action.AUDIT_VIEW in actions]
        projects = user.memberships.filter(role__in=readers).values("project_id")
        return self.filter(project_id__in=projects)

    def about(self, kind: Kind, object_id: int) -> AuditEntryQuerySet:
        """What was done to one object, newest first."""
        return self.filter(kind=kind, object_id=object_id)

    def after(self, entry: AuditEntry) -> AuditEntryQuerySet:
        """Those that are older than this one, in the order of the log."""
        older = Q(at__lt=entry.at) | Q(at=entry.at, pk__lt=entry.pk)
        return self.filter(older, at__lte=entry.at)

    def before(self, entry: AuditEntry) -> AuditEntryQuerySet:
        """Those that are newer than this one."""
        newer = Q(at__gt=entry.at) | Q(at=entry.at, pk__gt=entry.pk)
        return self.filter(newer, at__gte=entry.at)

    def update(self, **changes: Any) -> NoReturn:
        raise AuditLogError

    def delete(self) -> NoReturn:
        raise AuditLogError

    def bulk_update(self, *args: Any, **options: Any) -> NoReturn:
        raise AuditLogError


class AuditEntry(models.Model):
    """Who did what to which object.

    Numbers and names, no foreign keys: it outlives everything that it is about, and a deleted
    user must change no row here. `changes` says for each field `{"old", "new"}`, or `{"diff"}`
    for a long text, or `{"secret": "set" | "replaced" | "removed"}`; never a secret.
    """

    at = models.DateTimeField()
    way = models.CharField(max_length=20, choices=Way.choices)
    actor = models.CharField(max_length=MAXIMUM_NAME)
    actor_id = models.BigIntegerField(null=True)
    means = models.CharField(max_length=100, blank=True)
    address = models.GenericIPAddressField(null=True)
    # Without choices: a new word needs no migration. `record` takes nothing else.
    verb = models.CharField(max_length=30)
    kind = models.CharField(max_length=30)
    object_id = models.BigIntegerField(null=True)
    name = models.CharField(max_length=250)
    project_id = models.BigIntegerField(null=True)
    project = models.CharField(max_length=80, blank=True)
    changes = models.JSONField(default=dict)
    detail = models.CharField(max_length=MAXIMUM_DETAIL, blank=True)

    objects = AuditEntryQuerySet.as_manager()

    class Meta:
        verbose_name = "audit entry"
        verbose_name_plural = "audit log"
        ordering = ("-at", "-id")
        indexes = (
            models.Index(fields=("-at", "-id"), name="audit_by_time"),
            models.Index(fields=("project_id", "-at", "-id"), name="audit_by_project"),
            models.Index(fields=("kind", "object_id", "-at", "-id"), name="audit_by_object"),
            models.Index(fields=("actor", "-at", "-id"), name="audit_by_actor"),
            models.Index(fields=("address", "-at", "-id"), name="audit_by_address"),
            models.Index(fields=("verb", "-at", "-id"), name="audit_by_verb"),
            models.Index(fields=("way", "-at", "-id"), name="audit_by_way"),
            # And one for the beginnings of names, on PostgreSQL, in the migration.
        )
        constraints = (
            models.CheckConstraint(
                condition=~Q(verb="") & ~Q(kind="") & ~Q(name=""), name="audit_says_what"
            ),
            models.CheckConstraint(condition=~Q(actor=""), name="audit_says_who"),
        )

    def __str__(self) -> str:
        return f"{self.actor} {self.verb} {self.kind} {self.name}"

    def save(self, *args: Any, **options: Any) -> None:
        if self.pk is not None:
            raise AuditLogError
        super().save(*args, **options)

    def delete(self, *args: Any, **options: Any) -> NoReturn:
        raise AuditLogError

    @property
    def verb_label(self) -> str:
        return _label(Verb, self.verb)

    @property
    def kind_label(self) -> str:
        return _label(Kind, self.kind)

    def as_json(self) -> dict[str, Any]:
        """All of it in JSON's types, as exports and the API give it."""
        return {name: _plain(getattr(self, name)) for name in COLUMNS}


COLUMNS = (
    "id", "at", "actor", "actor_id", "way", "means", "address", "verb", "kind", "object_id",
    "name", "project", "project_id", "detail", "changes",
)  # fmt: skip


def _label(kind: type[models.TextChoices], text: str) -> str:
    """The label; the word itself for one that a later or earlier Forge wrote."""
    return str(kind(text).label) if text in kind.values else text.replace("_", " ")


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
