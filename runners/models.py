"""Runners, their tags, and the queues that tasks wait in."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models.functions import Lower

from projects.models import Project
from runners.contact import BrokerContact
from runners.draining import Drainable
from runners.pausing import Pausable
from runners.status import RunnerStatus
from runners.token_models import (
    MAXIMUM_CONCURRENCY,
    MAXIMUM_USES,
    RegistrationToken,
    RunnerToken,
)
from runners.worker.protocol import MAXIMUM_TROUBLE

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

__all__ = [
    "MAXIMUM_CONCURRENCY",
    "MAXIMUM_USES",
    "BrokerContact",
    "Queue",
    "RegistrationToken",
    "Runner",
    "RunnerToken",
    "Tag",
]

MAXIMUM_TAGS = 10
QUARANTINE_REASON_LENGTH = 300

is_tag_name = RegexValidator(
    r"\A[a-z0-9][a-z0-9_.-]{0,39}\Z",
    "Use lower-case letters, digits, dots, dashes and underscores, at most 40, "
    "beginning with a letter or digit.",
)
is_runner_name = RegexValidator(
    r"\A[a-z0-9]([a-z0-9.-]{0,58}[a-z0-9])?\Z",
    "Use lower-case letters, digits, dots and dashes, at most 60, "
    "beginning and ending with a letter or digit.",
)


class Tag(models.Model):
    """A word that a runner offers and a template requires."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="tags")
    name = models.CharField(max_length=40, validators=[is_tag_name])

    class Meta:
        ordering = ("name",)
        constraints = (models.UniqueConstraint(fields=("project", "name"), name="tag_name_unique"),)

    def __str__(self) -> str:
        return self.name


class Queue(models.Model):
    """Where tasks with one set of required tags wait; `tasks` is for those without any.

    Rows are only ever added: a runner whose broker account lost a queue while it still
    listens there would be refused by the broker.
    """

    UNTAGGED = "tasks"

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="queues")
    name = models.CharField(max_length=450)
    tags = models.ManyToManyField(Tag, related_name="queues", blank=True)

    class Meta:
        ordering = ("project", "name")
        constraints = (
            models.UniqueConstraint(fields=("project", "name"), name="queue_name_unique"),
        )

    def __str__(self) -> str:
        return f"{self.project}: {self.name}"

    @classmethod
    def name_for(cls, tags: Iterable[str]) -> str:
        """The queue name of a set of tags: `tasks`, or `tasks.ansible+gpu`."""
        required = sorted(set(tags))
        return f"{cls.UNTAGGED}.{'+'.join(required)}" if required else cls.UNTAGGED

    @property
    def required_tags(self) -> set[str]:
        """The tags that `name_for` made the name from; no tag holds a plus sign."""
        _, _, tags = self.name.partition(".")
        return set(tags.split("+")) if tags else set()


_GLANCE = (
    "project_id",
    "name",
    "concurrency",
    "host_slots",
    "ending",
    "takes_untagged",
    "created_at",
    "removed_at",
    "session",
    "last_heartbeat_at",
    "is_draining",
    "drain_order",
    "was_told_to_end",
    "paused_at",
    "paused_until",
    "pause_reason",
    "paused_by__username",
    "paused_by__first_name",
    "paused_by__last_name",
    "quarantined_until",
    "quarantine_reason",
    "trouble",
)


class RunnerQuerySet(models.QuerySet["Runner"]):
    def for_user(self, user: User | AnonymousUser) -> RunnerQuerySet:
        """The runners, removed ones aside, of the projects that `user` may see."""
        return self.ever_for_user(user).present()

    def ever_for_user(self, user: User | AnonymousUser) -> RunnerQuerySet:
        """As `for_user`, and the removed ones, whose history stays."""
        if user.is_superuser:
            return self.all()
        return self.filter(project__in=Project.objects.for_user(user))

    def present(self) -> RunnerQuerySet:
        """Runners that were not removed."""
        return self.filter(removed_at=None)

    def at_a_glance(self) -> RunnerQuerySet:
        """Only what their status, their slots and the reason of a pause are told from.

        For pages that look at all runners of a project, of which there may be hundreds.
        """
        return self.select_related("paused_by").only(*_GLANCE)

    def with_account(self, now: datetime) -> RunnerQuerySet:
        """Runners that the broker is to let in: neither removed nor in quarantine."""
        return self.present().exclude(quarantined_until__gt=now)

    def unpaused(self, now: datetime) -> RunnerQuerySet:
        """Runners that may be given something new."""
        return self.filter(models.Q(paused_at=None) | models.Q(paused_until__lte=now))

    def entitled_to(self, queue: Queue) -> RunnerQuerySet:
        """Runners that `may_take` the queue's tasks."""
        rows = self.present().filter(project_id=queue.project_id)
        if queue.name == Queue.UNTAGGED:
            return rows.filter(takes_untagged=True)
        for name in sorted(queue.required_tags):
            rows = rows.filter(tags__name=name)
        return rows


class Runner(Pausable, Drainable):
    """A registered host. Its tokens open the runner API and one broker account."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="runners")
    name = models.CharField(max_length=60, validators=[is_runner_name])
    tags = models.ManyToManyField(Tag, related_name="runners", blank=True)
    # What a host names its journal after: tokens and addresses change, this does not.
    identity = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    concurrency = models.PositiveIntegerField(
        "tasks at once",
        default=4,
        validators=[MinValueValidator(1), MaxValueValidator(MAXIMUM_CONCURRENCY)],
    )
    takes_untagged = models.BooleanField("takes tasks without tags", default=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        related_name="+",
        editable=False,
    )
    registered_with = models.ForeignKey(
        "RegistrationToken",
        on_delete=models.SET_NULL,
        null=True,
        related_name="runners",
        editable=False,
    )
    created_at = models.DateTimeField(auto_now_add=True)
    removed_at = models.DateTimeField(null=True, blank=True, editable=False)

    # What the worker said of itself when it last connected.
    session = models.CharField(max_length=64, blank=True, editable=False)
    instance = models.CharField(max_length=64, blank=True, editable=False)
    connected_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_heartbeat_at = models.DateTimeField(null=True, blank=True, editable=False)
    # What keeps its worker from taking tasks, in the worker's own words, without a full stop.
    trouble = models.CharField(max_length=MAXIMUM_TROUBLE, blank=True, editable=False)
    version = models.CharField(max_length=40, blank=True, editable=False)
    system = models.CharField(max_length=120, blank=True, editable=False)
    host_name = models.CharField(max_length=255, blank=True, editable=False)
    address = models.GenericIPAddressField(null=True, blank=True, editable=False)
    # 0: as many as `concurrency` says. A host has only so many users to run tasks as.
    host_slots = models.PositiveIntegerField(default=0, editable=False)
    # Slots of its worker in which programs of tasks that were given up are still being ended.
    ending = models.PositiveIntegerField(default=0, db_default=0, editable=False)

    # Cut off from the broker for what it did there, until then or until somebody lifts it.
    quarantined_until = models.DateTimeField(null=True, blank=True, editable=False)
    quarantine_reason = models.CharField(
        max_length=QUARANTINE_REASON_LENGTH, blank=True, editable=False
    )
    # How many came shortly after one another: each lasts longer than the one before.
    quarantine_count = models.PositiveSmallIntegerField(default=0, editable=False)

    objects = RunnerQuerySet.as_manager()

    class Meta:
        ordering = ("project", "name")
        constraints = (
            models.UniqueConstraint(
                "project",
                Lower("name"),
                condition=models.Q(removed_at=None),
                name="runner_name_unique",
            ),
            models.CheckConstraint(
                condition=models.Q(concurrency__gte=1, concurrency__lte=MAXIMUM_CONCURRENCY),
                name="runner_concurrency_in_range",
            ),
            models.CheckConstraint(
                condition=models.Q(quarantined_until=None) | ~models.Q(quarantine_reason=""),
                name="runner_quarantine_has_reason",
            ),
            models.CheckConstraint(
                condition=models.Q(paused_at=None) | ~models.Q(pause_reason=""),
                name="runner_pause_has_reason",
            ),
            models.CheckConstraint(
                condition=models.Q(paused_until=None)
                | models.Q(paused_until__gt=models.F("paused_at")),
                name="runner_pause_ends_after_it_began",
            ),
        )

    def __str__(self) -> str:
        return self.name

    @property
    def account(self) -> str:
        """The name of this runner's broker account."""
        return f"runner-{self.pk}"

    @property
    def node_name(self) -> str:
        """The Celery node name that the worker takes, and the only one it may speak as."""
        return f"{self.account}@{self.name}"

    def valid_digests(self, *, now: datetime) -> list[str]:
        """What its broker account takes as passwords: one digest, more during a rotation."""
        return list(self.tokens.valid(now=now).order_by("pk").values_list("digest", flat=True))

    @property
    def current_token(self) -> RunnerToken | None:
        """The token that replaces all others; in memory if `tokens` was prefetched."""
        return next((token for token in self.tokens.all() if token.expires_at is None), None)

    def older_tokens(self, *, now: datetime) -> list[RunnerToken]:
        """Replaced tokens that still work, the one that works longest first."""
        older = (token for token in self.tokens.all() if token.is_older(now=now))
        return sorted(older, key=lambda token: token.expires_at or now, reverse=True)

    def queues(self) -> models.QuerySet[Queue]:
        """The queues of its project whose every required tag this runner has."""
        foreign = Tag.objects.filter(project_id=self.project_id).exclude(runners=self)
        mine = Queue.objects.filter(project_id=self.project_id).exclude(tags__in=foreign)
        return mine if self.takes_untagged else mine.exclude(name=Queue.UNTAGGED)

    def may_take(self, queue: Queue) -> bool:
        """Whether `queue` is among `queues()`, asked more cheaply."""
        if queue.project_id != self.project_id:
            return False
        if queue.name == Queue.UNTAGGED:
            return self.takes_untagged
        return queue.required_tags <= set(self.tags.values_list("name", flat=True))

    def is_quarantined(self, *, now: datetime) -> bool:
        return self.quarantined_until is not None and self.quarantined_until > now

    def quarantine(self, *, reason: str, now: datetime) -> bool:
        """Take the broker away for a while, for twice as long as the last time.

        False if it was removed or is in quarantine already.
        """
        first = settings.FORGE_QUARANTINE_SECONDS
        longest = settings.FORGE_QUARANTINE_MAXIMUM_SECONDS
        last = self.quarantined_until
        is_forgiven = last is None or (now - last).total_seconds() > longest
        count = 0 if is_forgiven else min(self.quarantine_count, 30)
        until = now + timedelta(seconds=min(first * 2**count, longest))
        changed = (
            type(self)
            .objects.with_account(now)
            .filter(pk=self.pk)
            .update(
                quarantined_until=until,
                quarantine_reason=reason[:QUARANTINE_REASON_LENGTH],
                quarantine_count=count + 1,
            )
        )
        self.refresh_from_db()
        return bool(changed)

    def lift_quarantine(self, *, now: datetime) -> bool:
        """Give the broker back before the time is over; False if it has it.

        The count stays, so that the next quarantine is no shorter.
        """
        rows = type(self).objects.present().filter(pk=self.pk, quarantined_until__gt=now)
        changed = rows.update(quarantined_until=now)
        self.refresh_from_db()
        return bool(changed)

    def begin_session(
        self, fields: Mapping[str, object], *, silent_since: datetime, starting_since: datetime
    ) -> bool:
        """Store who connects; False while another instance has the runner, or it was removed.

        Another one has it when it was heard after `silent_since`, or when it connected after
        `starting_since` and was not heard yet. Of two at the same moment, the first gets it.
        """
        is_free = models.Q(instance="") | models.Q(instance=fields["instance"])
        is_silent = models.Q(last_heartbeat_at=None) | models.Q(last_heartbeat_at__lte=silent_since)
        has_started = models.Q(connected_at=None) | models.Q(connected_at__lte=starting_since)
        has_started |= models.Q(last_heartbeat_at__gte=models.F("connected_at"))
        rows = type(self).objects.present().filter(is_free | (is_silent & has_started), pk=self.pk)
        return bool(rows.update(**fields))

    @property
    def slots(self) -> int:
        """How many tasks it runs at once: what it may, and no more than its host lets it."""
        return min(self.concurrency, self.host_slots or self.concurrency)

    def note_trouble(self, trouble: str) -> bool:
        """Store what its worker says of itself; True if that is something new.

        False too when the session in which it was said has ended meanwhile.
        """
        if trouble == self.trouble:
            return False
        rows = type(self).objects.filter(pk=self.pk, session=self.session)
        changed = rows.exclude(trouble=trouble).update(trouble=trouble)
        self.trouble = trouble
        return bool(changed)

    def is_silent(self, *, now: datetime) -> bool:
        """Whether it was shut down, or so many heartbeats are missing that it counts as offline."""
        if self.last_heartbeat_at is None or not self.session:
            return True
        return now - self.last_heartbeat_at > timedelta(seconds=settings.FORGE_OFFLINE_SECONDS)

    def status_at(self, now: datetime, *, running: int) -> RunnerStatus:
        """The derived status; `running` is how many tasks it holds now."""
        if self.removed_at is not None:
            return RunnerStatus.REVOKED
        if self.last_heartbeat_at is None:
            return RunnerStatus.NEVER_CONTACTED
        is_paused = self.is_paused(now=now)
        # Whoever paused it may end its worker in good order, and is not to be alarmed by that.
        if self.is_silent(now=now) and (self.session or not is_paused):
            return RunnerStatus.OFFLINE
        if self.is_quarantined(now=now) or self.trouble:
            return RunnerStatus.UNHEALTHY
        if self.is_draining:
            return RunnerStatus.DRAINING
        if is_paused:
            return RunnerStatus.PAUSED
        return RunnerStatus.BUSY if running else RunnerStatus.IDLE
