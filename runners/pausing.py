"""A runner that is paused keeps what it runs and takes nothing new, until then or until resumed."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models

from projects.models import is_one_line
from projects.people import name_of

if TYPE_CHECKING:
    from django.contrib.auth.models import User

NO_PAUSE_REASON = "Say why, for those whose tasks wait."
PAUSE_REASON_LENGTH = 200


class Pausable(models.Model):
    """Who paused it, why, since when and until when. Whether it is paused follows from these."""

    paused_at = models.DateTimeField(null=True, blank=True, editable=False)
    paused_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        related_name="+",
        editable=False,
    )
    pause_reason = models.CharField(
        max_length=PAUSE_REASON_LENGTH, blank=True, editable=False, validators=[is_one_line]
    )
    # Empty: until somebody resumes it.
    paused_until = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        abstract = True

    def is_paused(self, *, now: datetime) -> bool:
        if self.paused_at is None:
            return False
        return self.paused_until is None or self.paused_until > now

    @property
    def pauser(self) -> str:
        """Who paused it, as sentences name them."""
        return name_of(self.paused_by)

    def pause(self, *, reason: str, until: datetime | None, by: User, now: datetime) -> bool:
        """Paused from now on, also if it was before; False if the runner was removed."""
        return self._set_pause(paused_at=now, paused_by=by, pause_reason=reason, paused_until=until)

    def resume(self, *, now: datetime) -> bool:
        """False if it was not paused."""
        if not self.is_paused(now=now):
            return False
        return self._set_pause(paused_at=None, paused_by=None, pause_reason="", paused_until=None)

    def _set_pause(self, **changes: object) -> bool:
        present = type(self)._default_manager.filter(models.Q(pk=self.pk, removed_at=None))
        changed = present.update(**changes)
        self.refresh_from_db(fields=tuple(changes))
        return bool(changed)


def checked_reason(row: Pausable, reason: str) -> str:
    """Stripped. Raises ValidationError for one that is empty, too long or not one line."""
    reason = reason.strip()
    if not reason:
        raise ValidationError({"reason": NO_PAUSE_REASON})
    try:
        row._meta.get_field("pause_reason").clean(reason, row)
    except ValidationError as error:
        raise ValidationError({"reason": error.messages}) from error
    return reason
