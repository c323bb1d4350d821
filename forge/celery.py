"""The server's Celery app: what `celery -A forge flower` looks through. It runs no worker."""

from __future__ import annotations

import os

import django
from celery import Celery
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "forge.settings")
django.setup()

from runners.broker import TRANSPORT_OPTIONS  # noqa: E402  # needs the settings above
from runners.fleet import FleetControl  # noqa: E402
from runners.replies import Attempt  # noqa: E402
from tasks.models import Task  # noqa: E402


class FlowerControl(FleetControl):
    """Knows which tasks a project's workers may speak of in their answers."""

    def own_tasks(self, project_id: int, attempts: set[Attempt]) -> set[Attempt]:
        """Those of the attempts that are of the project's tasks."""
        rows = Task.objects.filter(project_id=project_id, pk__in={task for task, _ in attempts})
        newest = dict(rows.values_list("pk", "attempt"))
        return {(task, number) for task, number in attempts if number <= newest.get(task, 0)}


app = Celery("forge", broker=settings.REDIS_URL, fixups=[], control=FlowerControl)
app.conf.update(
    # No prefix: the controller relays every project's events to where this app listens.
    broker_transport_options={**TRANSPORT_OPTIONS, "socket_keepalive": True},
    task_serializer="json",
    accept_content=["json"],
    control_queue_expires=None,
    worker_enable_remote_control=True,
)
