"""Which rows: what a user may see, what may start, what is due."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from django.db import models
from django.db.models import Exists, OuterRef, Q

from projects.models import Project
from tasks.lifecycle import HELD, TERMINAL, TaskState
from tasks.policies import lease_end

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

    from runners.models import Runner
    from tasks.models import Task, TaskTemplate  # noqa: F401  # in the types below


class TaskTemplateQuerySet(models.QuerySet["TaskTemplate"]):
    def for_user(self, user: User | AnonymousUser) -> TaskTemplateQuerySet:
        """The templates, removed ones aside, of the projects that `user` may see."""
        return self.present().filter(project__in=Project.objects.for_user(user))

    def present(self) -> TaskTemplateQuerySet:
        return self.filter(removed_at=None)


class TaskQuerySet(models.QuerySet["Task"]):
    def for_user(self, user: User | AnonymousUser) -> TaskQuerySet:
        """The tasks of the projects that `user` may see."""
        return self.filter(project__in=Project.objects.for_user(user))

    def held(self) -> TaskQuerySet:
        """Tasks that a runner holds: they take a slot of the runner and of the project."""
        return self.filter(state__in=HELD)

    def finished(self) -> TaskQuerySet:
        return self.filter(state__in=TERMINAL)

    def held_by(self, runner: Runner) -> TaskQuerySet:
        return self.held().filter(runner=runner)

    def renew_leases(self, runner: Runner, *, now: datetime) -> int:
        """Renew the leases of those of them that the runner still holds; returns how many."""
        return self.held_by(runner).update(lease_expires_at=lease_end(now))

    def overdue(self, now: datetime) -> TaskQuerySet:
        """Unreachable tasks about which their policy is to decide now."""
        return self.filter(state=TaskState.UNREACHABLE, wait_ends_at__lte=now)

    def startable(self) -> TaskQuerySet:
        """Queued tasks that their template's own rule lets start now, first in first out.

        A task that must run alone waits for the one that is held and for earlier ones of the
        same template.
        """
        rivals = type(self)(self.model).filter(template=OuterRef("template"))
        earlier = Q(state=TaskState.QUEUED, pk__lt=OuterRef("pk"))
        blocked = Exists(rivals.filter(Q(state__in=HELD) | earlier))
        return (
            self.filter(state=TaskState.QUEUED)
            .filter(Q(is_exclusive=False) | ~blocked)
            .order_by("pk")
        )

    def hinted(self) -> TaskQuerySet:
        """Queued tasks whose hint was put out and not yet claimed."""
        return self.filter(state=TaskState.QUEUED).exclude(hinted_at=None)

    def silent_since(self, limit: datetime) -> TaskQuerySet:
        """Held tasks whose runner was last heard before `limit`."""
        return self.held().filter(runner__last_heartbeat_at__lt=limit)
