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

app = Celery("forge", broker=settings.REDIS_URL, fixups=[], control=FleetControl)
app.conf.update(
    # No prefix: the controller relays every project's events to where this app listens.
    broker_transport_options={**TRANSPORT_OPTIONS, "socket_keepalive": True},
    task_serializer="json",
    accept_content=["json"],
    control_queue_expires=None,
    worker_enable_remote_control=True,
)
