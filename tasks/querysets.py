"""Which rows: what a user may see, what may start, what is due."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db import models, transaction
from django.db.models import OuterRef, Q, Subquery, Value

from projects.models import Project
from projects.permissions import Action
from tasks.lifecycle import HELD, TERMINAL, UNFINISHED, TaskState
from tasks.policies import lease_end

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

    from runners.models import Queue, Runner
    from tasks.models import Task, TaskTemplate  # noqa: F401  # in the types below

QUEUED = TaskState.QUEUED
# Columns of templates, and of the tasks that copy them.
LONG = ("script", "environment")


def unheard_since(limit: datetime) -> Q:
    """Of tasks: their runner was last heard before `limit`, and claimed them before that too.

    One that comes back may claim before its first heartbeat arrives; one that ended before it never
    sends any.
    """
    is_silent = Q(runner__last_heartbeat_at__lt=limit) | Q(runner__last_heartbeat_at=None)
    return is_silent & Q(claimed_at__lt=limit)


def never_started(reason: str, *, now: datetime) -> dict[str, Any]:
    """What a task is given that was stopped before anything was started."""
    return {
        "reason": reason,
        "stop_requested_at": now,
        "finished_at": now,
        "log_complete": True,  # nothing was written, and nothing is missing
    }


class _Word(Value):
    """A state in the text of a statement, as it stands in the conditions of indexes."""

    def as_sql(self, compiler: object, connection: object) -> tuple[str, tuple[str | int, ...]]:
        return f"'{self.value}'", ()


def _among(states: Iterable[TaskState]) -> Q:
    """As `state__in`. SQLite compares a list with an index's condition word by word, and knows
    nothing of parameters then: it would read all tasks there ever were. So it is sorted as there.
    """
    return Q(state__in=[_Word(state.value) for state in sorted(states)])


class TaskTemplateQuerySet(models.QuerySet["TaskTemplate"]):
    def for_user(self, user: User | AnonymousUser) -> TaskTemplateQuerySet:
        """The templates, removed ones aside, of the projects that `user` may see."""
        return self.present().filter(project__in=Project.objects.for_user(user))

    def present(self) -> TaskTemplateQuerySet:
        return self.filter(removed_at=None)

    def runnable_by(self, user: User | AnonymousUser) -> TaskTemplateQuerySet:
        """Those that `user` may run now."""
        projects = Project.objects.allowing(user, Action.TASK_RUN)
        return self.present().filter(project__in=projects, disabled_at=None)


class TaskQuerySet(models.QuerySet["Task"]):
    def for_user(self, user: User | AnonymousUser) -> TaskQuerySet:
        """The tasks of the projects that `user` may see."""
        if user.is_superuser:
            return self  # all: the database would look project by project
        return self.filter(project__in=Project.objects.for_user(user))

    def without_scripts(self, *joined: str) -> TaskQuerySet:
        """For all but claims and pages that show them: without script and environment, which may be
        hundreds of kilobytes a row; nor those of the rows that `joined` names, as `template`.
        """
        prefixes = ("", *(f"{one}__" for one in joined))
        return self.defer(*(f"{prefix}{column}" for prefix in prefixes for column in LONG))

    def waiting(self) -> TaskQuerySet:
        """Tasks that nothing was started of yet: queued, or not approved."""
        # In the words of an index's condition first: without them SQLite would sort all that wait.
        return self.unfinished().filter(state__in=sorted((QUEUED, TaskState.AWAITING_APPROVAL)))

    def to_stop(self) -> TaskQuerySet:
        """Held tasks whose stop nobody has asked for."""
        return self.held().filter(stop_requested_at=None)

    def stop_before_start(self, *, reason: str, now: datetime) -> int:
        """`queued | awaiting_approval -> stopped`, those that still wait; returns how many."""
        return self.waiting().update(state=TaskState.STOPPED, **never_started(reason, now=now))

    def held(self) -> TaskQuerySet:
        """Tasks that a runner holds: they take a slot of the runner and of the project."""
        return self.filter(_among(HELD))

    def finished(self) -> TaskQuerySet:
        return self.filter(_among(TERMINAL))

    def unfinished(self) -> TaskQuerySet:
        return self.filter(_among(UNFINISHED))

    def held_by(self, runner: Runner) -> TaskQuerySet:
        """Written as a range: for an equality SQLite takes the index of all that it ever ran."""
        return self.held().filter(runner__gte=runner.pk, runner__lte=runner.pk)

    def of_attempts(self, keys: Iterable[tuple[int, int]]) -> TaskQuerySet:
        """Those that are in just these attempts: `keys` are (task, attempt)."""
        tasks: dict[int, list[int]] = defaultdict(list)
        for task, attempt in sorted(keys):
            tasks[attempt].append(task)
        meant = Q(pk__in=())
        for attempt, ids in tasks.items():
            meant |= Q(attempt=attempt, pk__in=ids)
        return self.filter(meant)

    def renew_leases(self, runner: Runner, *, now: datetime) -> int:
        """Renew the leases of those of them that the runner still holds; returns how many.

        Locked in the order in which others lock several of them, so that no two wait for each
        other.
        """
        with transaction.atomic():
            rows = self.held_by(runner).order_by("pk")
            ids = list(rows.select_for_update(no_key=True).values_list("pk", flat=True))
            return self.held_by(runner).filter(pk__in=ids).update(lease_expires_at=lease_end(now))

    def overdue(self, now: datetime) -> TaskQuerySet:
        """Unreachable tasks about which their policy is to decide now."""
        return self.unreachable().filter(wait_ends_at__lte=now)

    def unreachable(self) -> TaskQuerySet:
        """In no order: in the model's SQLite would go along all tasks there ever were."""
        return self.filter(state=TaskState.UNREACHABLE).order_by()

    def first_of_templates(self, project: Project) -> TaskQuerySet:
        """Of each of the project's templates the oldest task that waits, if nothing of it is held.

        A task that must run alone may start if it is this one. Found by one step into an index
        for each template, however many tasks wait; the ids are asked for by themselves, or
        PostgreSQL would rather read all that wait.
        """
        tasks = type(self)(self.model)
        unfinished = tasks.filter(_among(HELD | {QUEUED}), template=OuterRef("pk"))
        first = Subquery(unfinished.order_by("pk").values("pk")[:1])
        rows = project.templates.order_by().annotate(first=first)
        ids = [pk for pk in rows.values_list("first", flat=True) if pk is not None]
        # Of the whole project: asked template by template, SQLite would read all tasks of each.
        held = tasks.filter(project=project).held().order_by()
        return self.filter(pk__in=ids).exclude(template__in=held.values("template"))

    def to_hint(self) -> TaskQuerySet:
        """Queued tasks whose hint is not out."""
        return self.filter(state=TaskState.QUEUED, hinted_at=None).order_by()

    def in_line(self, queue: Queue) -> TaskQuerySet:
        """Those of one queue, first in first out.

        Written as a range: for an equality PostgreSQL drops the queue from the order and may then
        walk along all tasks there ever were, expecting to meet the few that are meant soon.
        """
        rows = self.filter(queue_id__gte=queue.pk, queue_id__lte=queue.pk)
        return rows.order_by("queue_id", "pk")

    def hinted(self) -> TaskQuerySet:
        """Queued tasks whose hint was put out and not yet claimed."""
        return self.filter(state=TaskState.QUEUED, hinted_at__isnull=False)

    def silent_since(self, limit: datetime) -> TaskQuerySet:
        """Held tasks of whose runner nothing was heard after `limit`, not even their claim; in no
        order, as `unreachable`.
        """
        return self.held().filter(unheard_since(limit)).order_by()
