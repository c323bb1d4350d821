"""What a worker tells of itself over the broker, for Flower and its like."""

from __future__ import annotations

from typing import Any

from celery.app.events import Events
from celery.events.dispatcher import EventDispatcher


class RunnerDispatcher(EventDispatcher):  # type: ignore[misc]
    """Sends each event once; where Celery would try for ever, the connection counts as lost.

    Celery sends its heartbeats in the event loop, and tries each until it is sent: as long as the
    broker is away the worker would neither say so nor end at a signal. What Celery tries once goes
    on being kept until the next connection.
    """

    buffer_while_offline: bool

    def _publish(
        self, event: Any, producer: Any, routing_key: str, retry: bool = False, **options: Any
    ) -> None:
        # In the dispatcher's lock, as everything that is sent.
        is_kept, self.buffer_while_offline = self.buffer_while_offline, not retry
        try:
            super()._publish(event, producer, routing_key, **options)  # type: ignore[misc]
        finally:
            self.buffer_while_offline = is_kept


class RunnerEvents(Events):  # type: ignore[misc]
    dispatcher_cls = "runners.worker.events:RunnerDispatcher"
