"""Whether the broker serves the leading controller: one row, written when that changes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db import models

DETAIL_LENGTH = 300
# What a worker hears at the tunnel while the broker does not answer Forge, and then tells Forge.
UNREACHABLE = "The broker cannot be reached from Forge at the moment."
NO_ANSWER = "Forge's broker does not answer"
# The same of an account that the broker has lost, and what redis-py says at its own address.
MISSING = "The broker does not know this runner's account yet."
_MISSING_DIRECT = ("invalid username-password pair", "refuses this runner's account")
NO_ACCOUNT = "Forge's broker does not know its account, which a controller restores"
_ONLY = "broker"


@dataclass(frozen=True)
class BrokerTrouble:
    """`refusal`: what the broker answers to hints; empty where it does not answer at all."""

    since: datetime
    refusal: str


def as_forge_knows(trouble: str) -> str:
    """What keeps a worker from tasks, without blame for its host where that is Forge's own side."""
    if UNREACHABLE.rstrip(".") in trouble:
        return NO_ANSWER
    if any(words in trouble for words in (MISSING.rstrip("."), *_MISSING_DIRECT)):
        return NO_ACCOUNT
    return trouble


class BrokerContact(models.Model):
    """Since when the broker has not answered the controller, or taken its hints; at most one row.

    Pages and API show it as what a task waits for; it has no address of its own.
    """

    name = models.CharField(max_length=20, primary_key=True, default=_ONLY, editable=False)
    lost_at = models.DateTimeField(null=True)
    # For whoever runs Forge: it names hosts and ports.
    detail = models.CharField(max_length=DETAIL_LENGTH, blank=True)
    # For everybody. Empty while the broker does not answer, and while all is well.
    refusal = models.CharField(max_length=DETAIL_LENGTH, blank=True)

    class Meta:
        verbose_name_plural = "broker contact"
        constraints = (
            models.CheckConstraint(
                condition=models.Q(name=_ONLY), name="broker_contact_is_one_row"
            ),
        )

    def __str__(self) -> str:
        if not self.lost_at:
            return "in contact"
        return (
            f"{'refuses since' if self.refusal else 'lost at'} {self.lost_at:%Y-%m-%d %H:%M:%S %Z}"
        )

    @classmethod
    def trouble(cls) -> BrokerTrouble | None:
        """None while the broker answers, and takes hints."""
        row = cls.objects.filter(name=_ONLY).first()
        return BrokerTrouble(row.lost_at, row.refusal) if row and row.lost_at else None

    @classmethod
    def note_loss(cls, error: Exception, *, now: datetime) -> None:
        """The broker does not answer; the first such moment is kept."""
        cls._note(str(error), "", now=now)

    @classmethod
    def note_refusal(cls, error: Exception, *, now: datetime) -> None:
        """It answers to hints with `error`; the first such moment is kept, and the last answer."""
        answer = str(error).rstrip(" .") or type(error).__name__
        cls._note(answer, answer, now=now)

    @classmethod
    def _note(cls, detail: str, refusal: str, *, now: datetime) -> None:
        """Writes only what is new: this is asked every few seconds."""
        row, _ = cls.objects.get_or_create(name=_ONLY)
        refusal = refusal[:DETAIL_LENGTH]
        is_known = row.lost_at is not None and bool(row.refusal) == bool(refusal)
        if is_known and row.refusal == refusal:
            return
        if not is_known:
            row.lost_at = now
        row.detail, row.refusal = detail[:DETAIL_LENGTH], refusal
        row.save()

    @classmethod
    def note_answer(cls) -> None:
        """All is well. Writes only if it was not before: this is asked every few seconds."""
        if cls.trouble() is not None:
            cls.objects.filter(name=_ONLY).update(lost_at=None, detail="", refusal="")
