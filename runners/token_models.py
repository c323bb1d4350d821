"""The tokens that open Forge: of runners, and of hosts that want to become runners."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from projects.models import DIGEST_LENGTH, LAST_USE_RESOLUTION_SECONDS, Project, is_one_line
from projects.single import single
from projects.tokens import digest_of
from runners.status import RegistrationStatus

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

MAXIMUM_CONCURRENCY = 100
MAXIMUM_USES = 1000


class RunnerTokenQuerySet(models.QuerySet["RunnerToken"]):
    def valid(self, *, now: datetime) -> RunnerTokenQuerySet:
        """Those that still open something: the current ones, and older ones in their overlap."""
        return self.filter(models.Q(expires_at=None) | models.Q(expires_at__gt=now))

    def outliving(self, until: datetime) -> RunnerTokenQuerySet:
        """Those that would still work after `until`."""
        return self.valid(now=until)

    def to_cut(self, *, now: datetime) -> RunnerTokenQuerySet:
        """Ended ones that the broker may still know, or have connections of."""
        return self.filter(expires_at__lte=now, cut_at=None)

    def find(self, token: str) -> RunnerToken | None:
        """The row of this clear-text token, with runner and project, whatever its state."""
        return single(self.filter(digest=digest_of(token)).select_related("runner__project"))


class RunnerToken(models.Model):
    """One token of a runner. The current one has no end; a rotation gives it one."""

    runner = models.ForeignKey("runners.Runner", on_delete=models.CASCADE, related_name="tokens")
    digest = models.CharField(max_length=DIGEST_LENGTH, unique=True, editable=False)
    created_at = models.DateTimeField()
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    expires_at = models.DateTimeField(null=True, blank=True)
    # When the broker had forgotten it and its connections were cut.
    cut_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = RunnerTokenQuerySet.as_manager()

    class Meta:
        ordering = ("runner", "-pk")
        constraints = (
            models.UniqueConstraint(
                fields=("runner",),
                condition=models.Q(expires_at=None),
                name="runner_token_one_is_current",
            ),
            models.CheckConstraint(
                condition=models.Q(cut_at=None) | models.Q(expires_at__isnull=False),
                name="runner_token_current_is_not_cut",
            ),
        )
        indexes = (
            # What the controller asks every second: ended, and not yet cut.
            models.Index(
                fields=("expires_at",),
                condition=models.Q(cut_at=None, expires_at__isnull=False),
                name="runner_token_to_cut",
            ),
        )

    def __str__(self) -> str:
        return f"token {self.pk} of {self.runner}"

    def is_valid(self, *, now: datetime) -> bool:
        """Whether it still opens something, its runner's removal aside."""
        return self.expires_at is None or self.expires_at > now

    def is_older(self, *, now: datetime) -> bool:
        """Whether a newer one has replaced it and it still works."""
        return self.expires_at is not None and self.expires_at > now

    def note_use(self, *, now: datetime) -> None:
        """Remember the use, at most once a minute: a heartbeat comes every few seconds."""
        last = self.last_used_at
        if last is None or (now - last).total_seconds() >= LAST_USE_RESOLUTION_SECONDS:
            type(self).objects.filter(pk=self.pk).update(last_used_at=now)


class RegistrationTokenQuerySet(models.QuerySet["RegistrationToken"]):
    def for_user(self, user: User | AnonymousUser) -> RegistrationTokenQuerySet:
        """The tokens, used up and revoked ones too, of the projects that `user` may see."""
        return self.filter(project__in=Project.objects.for_user(user))

    def find(self, token: str) -> RegistrationToken | None:
        """The row of this clear-text token, whatever its state."""
        rows = self.filter(digest=digest_of(token))
        return single(rows.select_related("project", "created_by"))


class RegistrationToken(models.Model):
    """Lets hosts add themselves as runners of a project: how many, until when, with which tags."""

    project = models.ForeignKey(
        Project, on_delete=models.CASCADE, related_name="registration_tokens"
    )
    name = models.CharField(max_length=80, validators=[is_one_line])
    digest = models.CharField(max_length=DIGEST_LENGTH, unique=True, editable=False)
    tags = models.ManyToManyField("runners.Tag", related_name="registration_tokens", blank=True)
    takes_untagged = models.BooleanField("takes tasks without tags", default=True)
    concurrency = models.PositiveIntegerField(
        "tasks at once",
        default=4,
        validators=[MinValueValidator(1), MaxValueValidator(MAXIMUM_CONCURRENCY)],
    )
    max_uses = models.PositiveIntegerField(
        "uses", default=1, validators=[MinValueValidator(1), MaxValueValidator(MAXIMUM_USES)]
    )
    uses = models.PositiveIntegerField("used", default=0, editable=False)
    created_at = models.DateTimeField(editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        related_name="+",
        editable=False,
    )
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = RegistrationTokenQuerySet.as_manager()

    class Meta:
        ordering = ("project", "-pk")
        constraints = (
            models.CheckConstraint(
                condition=models.Q(uses__lte=models.F("max_uses")),
                name="registration_token_uses_in_limit",
            ),
            models.CheckConstraint(
                condition=models.Q(max_uses__gte=1, max_uses__lte=MAXIMUM_USES),
                name="registration_token_max_uses_in_range",
            ),
            models.CheckConstraint(
                condition=models.Q(concurrency__gte=1, concurrency__lte=MAXIMUM_CONCURRENCY),
                name="registration_token_concurrency_in_range",
            ),
            models.CheckConstraint(
                condition=models.Q(expires_at__gt=models.F("created_at")),
                name="registration_token_expires_later",
            ),
        )

    def __str__(self) -> str:
        return self.name

    def status_at(self, now: datetime) -> RegistrationStatus:
        """The derived status; revoked wins over used up, and that over expired."""
        if self.revoked_at is not None:
            return RegistrationStatus.REVOKED
        if self.uses >= self.max_uses:
            return RegistrationStatus.USED_UP
        return RegistrationStatus.EXPIRED if self.expires_at <= now else RegistrationStatus.ACTIVE

    def take_use(self, *, now: datetime) -> bool:
        """Count one use; False if there is none left to take. Two hosts never take the same."""
        usable = type(self).objects.filter(pk=self.pk, revoked_at=None, expires_at__gt=now)
        left = usable.filter(uses__lt=models.F("max_uses"))
        return bool(left.update(uses=models.F("uses") + 1))

    def revoke(self, *, now: datetime) -> bool:
        """No host can use it any more; False if it was revoked before."""
        return bool(type(self).objects.filter(pk=self.pk, revoked_at=None).update(revoked_at=now))
