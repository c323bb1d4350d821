"""A template that is disabled is not run any more, by nobody and nothing, until it is enabled."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models

from projects.models import is_one_line
from projects.people import name_of

if TYPE_CHECKING:
    from django.contrib.auth.models import User

DISABLED_REASON_LENGTH = 200


class Disableable(models.Model):
    """Who disabled it, why and since when."""

    disabled_at = models.DateTimeField(null=True, blank=True, editable=False)
    disabled_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        related_name="+",
        editable=False,
    )
    disabled_reason = models.CharField(
        max_length=DISABLED_REASON_LENGTH, blank=True, editable=False, validators=[is_one_line]
    )

    class Meta:
        abstract = True

    @property
    def is_disabled(self) -> bool:
        return self.disabled_at is not None

    @property
    def disabler(self) -> str:
        """Who disabled it, as sentences name them."""
        return name_of(self.disabled_by)

    def disable(self, *, reason: str, by: User, now: datetime) -> bool:
        """Also if it was before: then for another reason. False if it was removed."""
        present = type(self)._default_manager.filter(models.Q(pk=self.pk, removed_at=None))
        return self._mark(present, disabled_at=now, disabled_by=by, disabled_reason=reason)

    def enable(self) -> bool:
        """False if it was not disabled."""
        disabled = type(self)._default_manager.filter(pk=self.pk, disabled_at__isnull=False)
        return self._mark(disabled, disabled_at=None, disabled_by=None, disabled_reason="")

    def _mark(self, rows: models.QuerySet[Disableable], **changes: object) -> bool:
        changed = rows.update(**changes)
        self.refresh_from_db(fields=tuple(changes))
        return bool(changed)
