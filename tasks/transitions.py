"""The state changes of a task: each is one conditional update.

It returns False, and has changed nothing, when the row was not in a state that allows the change
or is not held by that runner in that attempt (the fence). Which state may follow which is in
`tasks.lifecycle`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from runners.models import Runner
from tasks.lifecycle import HELD, TaskState, predecessors
from tasks.log_columns import NO_LOG
from tasks.policies import CLOCK_DIFFERENCE, LostRunnerPolicy, RunPolicy, lease_end
from tasks.querysets import TaskQuerySet, never_started, unheard_since

REASON_LENGTH = 500

# What an attempt begins with.
_FRESH: dict[str, Any] = {
    "runner": None,
    "nonce": "",
    "lease_expires_at": None,
    "hinted_at": None,
    "claimed_at": None,
    "started_at": None,
    "unreachable_at": None,
    "wait_ends_at": None,
    "log_head_bytes": 0,
    "log_tail_bytes": 0,
    **NO_LOG,
}


class TaskTransitions(RunPolicy):
    """How far a task has come: the columns, and the only methods that change them."""

    state = models.CharField(max_length=20, choices=TaskState.choices, default=TaskState.QUEUED)
    reason = models.CharField(max_length=REASON_LENGTH, blank=True)
    exit_code = models.IntegerField(null=True)
    attempt = models.PositiveIntegerField(default=1)
    runner = models.ForeignKey(Runner, on_delete=models.PROTECT, null=True, related_name="tasks")
    nonce = models.CharField(max_length=64, blank=True)
    # Until then its runner may let it run without a word from Forge.
    lease_expires_at = models.DateTimeField(null=True)

    # When the present attempt was: later than `created_at` only for one that follows another.
    # The default is for processes of a version that does not know the column.
    queued_at = models.DateTimeField(db_default=Now())
    hinted_at = models.DateTimeField(null=True)
    claimed_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    stop_requested_at = models.DateTimeField(null=True)
    stop_reason = models.CharField(max_length=REASON_LENGTH, blank=True)
    # The stop is to skip what is left of its steps.
    force_requested_at = models.DateTimeField(null=True)
    unreachable_at = models.DateTimeField(null=True)
    # When the wait for its runner is over and its policy decides.
    wait_ends_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects = TaskQuerySet.as_manager()

    class Meta:
        abstract = True

    def _move(self, to: TaskState, *, fence: Q | None = None, **changes: Any) -> bool:
        """One conditional update to state `to`; on success this object shows it too."""
        rows = type(self).objects.filter(pk=self.pk, state__in=sorted(predecessors(to)))
        if fence is not None:
            rows = rows.filter(fence)
        if rows.update(state=to, **changes) == 0:
            return False
        for name, content in {"state": to, **changes}.items():
            setattr(self, name, content)
        return True

    def claim(self, *, runner: Runner, attempt: int, nonce: str, now: datetime) -> bool:
        """`queued -> starting` for this runner.

        Raises `django.db.IntegrityError` when another task of an exclusive template is held.
        """
        return self._move(
            TaskState.STARTING,
            fence=Q(attempt=attempt, project_id=runner.project_id),
            runner=runner,
            nonce=nonce,
            claimed_at=now,
            lease_expires_at=lease_end(now),
            log_head_bytes=settings.FORGE_LOG_HEAD_BYTES,
            log_tail_bytes=settings.FORGE_LOG_TAIL_BYTES,
        )

    def renew_claim(self, *, runner: Runner, attempt: int, nonce: str, now: datetime) -> bool:
        """Give the same claim a new lease, as long as nothing was heard of a start."""
        rows = type(self).objects.filter(pk=self.pk, state__in=sorted(HELD), started_at=None)
        rows = rows.filter(runner=runner, attempt=attempt, nonce=nonce, stop_requested_at=None)
        return bool(rows.update(lease_expires_at=lease_end(now)))

    def start(self, *, runner: Runner, attempt: int, now: datetime) -> bool:
        """`starting -> running`: the runner says that the process exists."""
        fence = Q(attempt=attempt, runner=runner, state=TaskState.STARTING)
        return self._move(TaskState.RUNNING, fence=fence, started_at=now)

    def note_start(self, *, runner: Runner, attempt: int, now: datetime) -> bool:
        """When the process began, of what was out of reach or to be stopped before that was known.

        Within the state that it has; only the first such word counts.
        """
        rows = type(self).objects.filter(pk=self.pk, state__in=sorted(HELD), started_at=None)
        return self._note(rows.filter(runner=runner, attempt=attempt), {"started_at": now})

    def note_overflow(
        self, *, runner: Runner, attempt: int, gap_offset: int, written_bytes: int
    ) -> bool:
        """How long the log is whose middle is left out, while it grows; it never gets shorter."""
        rows = type(self).objects.filter(pk=self.pk, state__in=sorted(HELD))
        rows = rows.filter(runner=runner, attempt=attempt, log_written_bytes__lt=written_bytes)
        known = {"log_gap_offset": gap_offset, "log_written_bytes": written_bytes}
        return self._note(rows, known)

    def come_back(self, *, runner: Runner, attempt: int) -> bool:
        """`unreachable -> running | stopping`: the runner is heard again and still has it."""
        is_wanted = self.stop_requested_at is None
        back = TaskState.RUNNING if is_wanted else TaskState.STOPPING
        fence = Q(attempt=attempt, runner=runner, state=TaskState.UNREACHABLE)
        # A stop that was asked for a moment ago decides too; the next heartbeat comes soon.
        fence &= Q(stop_requested_at__isnull=is_wanted)
        return self._move(back, fence=fence, unreachable_at=None, wait_ends_at=None)

    def stop_before_start(self, *, reason: str, now: datetime) -> bool:
        """`queued | awaiting_approval -> stopped`: nothing was started."""
        waiting = Q(state__in=(TaskState.QUEUED, TaskState.AWAITING_APPROVAL))
        return self._move(TaskState.STOPPED, fence=waiting, **never_started(reason, now=now))

    def request_stop(self, *, reason: str, now: datetime, attempt: int | None = None) -> bool:
        """`starting | running -> stopping`; the runner ends the process.

        With `attempt` only if it is still in that one: a person means the task, a runner what it
        was given.
        """
        fence = Q(state__in=(TaskState.STARTING, TaskState.RUNNING))
        if attempt is not None:
            fence &= Q(attempt=attempt)
        wish = {"stop_reason": reason, "stop_requested_at": now}
        return self._move(TaskState.STOPPING, fence=fence, **wish)

    def note_stop(self, *, reason: str, now: datetime) -> bool:
        """Have an unreachable task stopped as soon as its runner is heard again."""
        rows = type(self).objects.filter(pk=self.pk, state=TaskState.UNREACHABLE)
        wish = {"stop_reason": reason, "stop_requested_at": now}
        return self._note(rows.filter(stop_requested_at=None), wish)

    def force_stop(self, *, reason: str, now: datetime) -> bool:
        """Have the stop that is under way skip what is left of its steps."""
        rows = type(self).objects.filter(pk=self.pk, state=TaskState.STOPPING)
        wish = {"stop_reason": reason, "force_requested_at": now}
        return self._note(rows.filter(force_requested_at=None), wish)

    def _note(self, rows: TaskQuerySet, changes: dict[str, Any]) -> bool:
        """As `_move`, within one state."""
        if not rows.update(**changes):
            return False
        for name, content in changes.items():
            setattr(self, name, content)
        return True

    def finish(
        self, to: TaskState, *, runner: Runner, attempt: int, now: datetime, **outcome: Any
    ) -> bool:
        """`-> succeeded | failed | stopped | lost` with what the holding runner reported."""
        fence = Q(attempt=attempt, runner=runner, state__in=sorted(HELD))
        return self._move(to, fence=fence, finished_at=now, **outcome)

    def mark_unreachable(self, *, now: datetime, silent_since: datetime | None = None) -> bool:
        """`starting | running | stopping -> unreachable`: its runner went silent, or lost it.

        With `silent_since` only if the runner has not been heard after that moment, be it that it
        claimed the task.
        """
        fence = Q(attempt=self.attempt)
        if silent_since is not None:
            fence &= unheard_since(silent_since)
        end = self._wait_end(now)
        return self._move(TaskState.UNREACHABLE, fence=fence, unreachable_at=now, wait_ends_at=end)

    def _wait_end(self, now: datetime) -> datetime:
        """When the policy decides about a task that is unreachable from now on."""
        if self.lost_runner_policy == LostRunnerPolicy.FAIL:
            return now
        if self.lost_runner_policy == LostRunnerPolicy.RETRY and self.lease_expires_at:
            return max(now, self.lease_expires_at + CLOCK_DIFFERENCE)
        return now + timedelta(seconds=self.wait_seconds)

    @property
    def ends_with_lease(self) -> bool:
        """Whether the end of its lease ends its processes too, heard or not."""
        return self.lost_runner_policy == LostRunnerPolicy.RETRY

    @property
    def may_retry(self) -> bool:
        """Whether its policy allows another attempt, should this one be lost."""
        is_wanted = self.stop_requested_at is None
        return self.ends_with_lease and is_wanted and self.attempt < self.max_attempts

    def retry(self, *, attempt: int, now: datetime, is_over: bool) -> bool:
        """`unreachable -> queued` with the next attempt, if the policy allows one.

        The lease must have ended, unless its runner has said itself that all processes of this
        attempt are gone (`is_over`).
        """
        fence = Q(state=TaskState.UNREACHABLE, attempt=attempt, stop_requested_at=None)
        fence &= Q(lost_runner_policy=LostRunnerPolicy.RETRY, attempt__lt=F("max_attempts"))
        if not is_over:
            fence &= Q(lease_expires_at__lt=now - CLOCK_DIFFERENCE)
        fresh = {**_FRESH, "attempt": attempt + 1, "queued_at": now}
        return self._move(TaskState.QUEUED, fence=fence, **fresh)

    def lose(self, *, reason: str, now: datetime) -> bool:
        """`-> lost`: nobody can say how it ended."""
        return self._move(
            TaskState.LOST, fence=Q(attempt=self.attempt), reason=reason, finished_at=now
        )

    def note_late_word(self, *, reason: str) -> bool:
        """Within `lost`: what its runner says of its end afterwards, added to the reason."""
        rows = type(self).objects.filter(pk=self.pk, state=TaskState.LOST, attempt=self.attempt)
        return self._note(rows.filter(reason=self.reason), {"reason": reason})

    def lose_overdue(self, *, reason: str, now: datetime) -> bool:
        """`unreachable -> lost`: the wait for its runner is over, and its lease where that counts.

        Whoever decides it has read the row before, and may have been held up meanwhile.
        """
        fence = Q(state=TaskState.UNREACHABLE, attempt=self.attempt, wait_ends_at__lte=now)
        has_ended = Q(lease_expires_at__lt=now - CLOCK_DIFFERENCE)
        fence &= ~Q(lost_runner_policy=LostRunnerPolicy.RETRY) | has_ended
        return self._move(TaskState.LOST, fence=fence, reason=reason, finished_at=now)

    def stop_unreachable(self, *, reason: str, now: datetime) -> bool:
        """`unreachable -> stopped`: its lease has ended, and with it its processes."""
        fence = Q(state=TaskState.UNREACHABLE, attempt=self.attempt)
        fence &= Q(lost_runner_policy=LostRunnerPolicy.RETRY)
        fence &= Q(lease_expires_at__lt=now - CLOCK_DIFFERENCE)
        return self._move(TaskState.STOPPED, fence=fence, reason=reason, finished_at=now)


# The columns that these methods change, and those that they judge by.
CHANGING = tuple(field.name for field in TaskTransitions._meta.local_fields)
