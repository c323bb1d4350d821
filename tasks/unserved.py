"""Tasks that wait for nobody: of their project, no runner may take them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runners.models import Queue, Runner
from runners.offers import is_covered, offers_of
from tasks.lifecycle import TaskState
from tasks.models import Task

if TYPE_CHECKING:
    from projects.models import Project


def unserved(project: Project, *, without: Runner | None = None) -> int:
    """How many tasks wait that no runner of the project may take, online or not.

    `without` is a runner that does not count, because it is about to go.
    """
    runners = Runner.objects.present().filter(project=project)
    offers = offers_of(runners.exclude(pk=without.pk) if without else runners)
    queues = Queue.objects.filter(project=project).order_by()
    left = [queue.pk for queue in queues if not is_covered(queue.required_tags, offers)]
    return Task.objects.filter(queue__in=left, state=TaskState.QUEUED).count()
