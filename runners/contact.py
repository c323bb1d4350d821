"""Whether the leading controller reaches the broker: one row, written when that changes."""

from __future__ import annotations

from datetime import datetime

from django.db import models

DETAIL_LENGTH = 300
_ONLY = "broker"


class BrokerContact(models.Model):
    """Since when the broker has not answered the controller; at most one row.

    Pages and API show it as what a task waits for; it has no address of its own.
    """

    name = models.CharField(max_length=20, primary_key=True, default=_ONLY, editable=False)
    lost_at = models.DateTimeField(null=True)
    # For whoever runs Forge: it names hosts and ports.
    detail = models.CharField(max_length=DETAIL_LENGTH, blank=True)

    class Meta:
        verbose_name_plural = "broker contact"
        constraints = (
            models.CheckConstraint(
                condition=models.Q(name=_ONLY), name="broker_contact_is_one_row"
            ),
        )

    def __str__(self) -> str:
        return f"lost at {self.lost_at:%Y-%m-%d %H:%M:%S %Z}" if self.lost_at else "in contact"

    @classmethod
    def lost_since(cls) -> datetime | None:
        """None while the broker answers."""
        return cls.objects.filter(name=_ONLY).values_list("lost_at", flat=True).first()

    @classmethod
    def note_loss(cls, error: Exception, *, now: datetime) -> None:
        """The broker does not answer; the first such moment is kept."""
        row, _ = cls.objects.get_or_create(name=_ONLY)
        detail = str(error)[:DETAIL_LENGTH]
        cls.objects.filter(pk=row.pk, lost_at=None).update(lost_at=now, detail=detail)

    @classmethod
    def note_answer(cls) -> None:
        """It answers. Writes only if it did not before: this is asked every few seconds."""
        if cls.lost_since() is not None:
            cls.objects.filter(name=_ONLY).update(lost_at=None, detail="")
