"""What is known of one attempt's log, for the attempt that runs and for those before it."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Q

LOG_PROBLEM_LENGTH = 200
# The line that stands for what is left out has fewer.
GAP_MARKER_BYTES = 1000

ABOVE_LIMIT = "It went above its limit: a part of it is left out."

# What an attempt begins with.
NO_LOG: dict[str, Any] = {
    "log_bytes": 0,
    "log_lines": 0,
    "log_sha256": "",
    "log_complete": False,
    "log_written_bytes": 0,
    "log_gap_offset": None,
    "log_gap_bytes": 0,
    "log_problem": "",
}

GAP_IS_MARKED = Q(log_gap_bytes=0) | Q(
    log_gap_bytes__gt=0, log_gap_offset__gte=0, log_complete=False
)


class LogColumns(models.Model):
    """Length and SHA-256 of the committed bytes, and what they lack."""

    log_bytes = models.BigIntegerField(default=0)
    # How many line ends are in them.
    log_lines = models.BigIntegerField(default=0)
    log_sha256 = models.CharField(max_length=64, blank=True)
    log_complete = models.BooleanField(default=False)
    # What the process wrote, where a part of it is left out (docs/runners.md, "Long logs").
    log_written_bytes = models.BigIntegerField(default=0)
    log_gap_offset = models.BigIntegerField(null=True)
    log_gap_bytes = models.BigIntegerField(default=0)
    log_problem = models.CharField(max_length=LOG_PROBLEM_LENGTH, blank=True)

    class Meta:
        abstract = True

    @property
    def written_bytes(self) -> int:
        """What the process wrote as far as is known, with what is left out of its log."""
        return max(self.log_bytes, self.log_written_bytes)

    @property
    def lack_beside_gap(self) -> str:
        """What a log above its limit lacks apart from what is left out, as a sentence, or empty."""
        return self.log_problem if self.log_problem != ABOVE_LIMIT else ""

    @property
    def about_log(self) -> dict[str, Any]:
        """These columns by name."""
        return {name: getattr(self, name) for name in NO_LOG}


class LogOutline(models.Model):
    """What `tasks.log_outline` has found in one attempt's log so far, for it reads all of it."""

    task = models.ForeignKey("tasks.Task", on_delete=models.CASCADE, related_name="log_outlines")
    attempt = models.PositiveIntegerField()
    # How far it has read: a beginning of a line, and its number from 0.
    offset = models.BigIntegerField()
    line = models.BigIntegerField()
    marks = models.JSONField()
    masked = models.BigIntegerField()

    class Meta:
        ordering = ("task", "attempt")
        constraints = (
            models.UniqueConstraint(fields=("task", "attempt"), name="log_outline_unique"),
        )

    def __str__(self) -> str:
        return f"outline of the log of task {self.task_id}"


def lack_of_end(*, is_lost: bool) -> str:
    """What to say of a log whose end nobody has handed over, or nobody has taken."""
    if is_lost:
        return "It may lack its end: of a task that was given up as lost, no more is taken."
    return "It may lack its end: the runner did not hand over the rest."
