"""A runner that is drained takes nothing new, lets its tasks finish, and then its worker ends.

A worker that was told to end cannot be kept from it. So it is told only when it holds nothing more;
until then Forge gives it nothing, and the order can be taken back.
"""

from __future__ import annotations

from django.db import models

from runners.worker.protocol import MAXIMUM_ORDER


class Drainable(models.Model):
    """Whether its worker is to end, why, and whether it knows."""

    # Its worker was told to end, or is to be: it takes nothing new and lets its tasks finish.
    is_draining = models.BooleanField(default=False, editable=False)
    # Why somebody wants it so, from Forge; empty if it was a signal. Ends with the session.
    drain_order = models.CharField(max_length=MAXIMUM_ORDER, blank=True, editable=False)
    # Its worker ends, by that order, which it has or may have, or by a signal: no order can be
    # taken back any more.
    was_told_to_end = models.BooleanField(default=False, editable=False)

    class Meta:
        abstract = True

    def _present(self) -> models.QuerySet[models.Model]:
        return type(self)._default_manager.filter(models.Q(pk=self.pk, removed_at=None))

    def drain(self, order: str) -> bool:
        """Let its worker end after its tasks; False if none is connected."""
        rows = self._present().exclude(models.Q(session=""))
        changed = rows.update(drain_order=order, is_draining=True)
        self.refresh_from_db()
        return bool(changed)

    @property
    def can_be_kept(self) -> bool:
        """Whether an order to drain stands that its worker, which is there, does not know yet."""
        return self.is_draining and bool(self.drain_order) and not self.was_told_to_end

    def take_back_drain(self) -> bool:
        """Its worker goes on; False if it was told to end, or never was to."""
        rows = self._present().filter(models.Q(is_draining=True, was_told_to_end=False))
        rows = rows.exclude(drain_order="")
        changed = rows.update(drain_order="", is_draining=False)
        self.refresh_from_db(fields=("drain_order", "is_draining", "was_told_to_end"))
        return bool(changed)

    def tell_to_end(self) -> str:
        """The order for its worker, which from now on may have it; empty if it was taken back."""
        rows = self._present().exclude(drain_order="")
        return self.drain_order if rows.update(was_told_to_end=True) else ""
