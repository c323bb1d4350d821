"""What a worker tells of itself over the broker, for Flower and its like."""

from __future__ import annotations

from typing import Any

from celery.app.events import Events
from celery.events.dispatcher import EventDispatcher

from runners.worker.broker_watch import answer_in
from runners.worker.channel import give_up


class RunnerDispatcher(EventDispatcher):  # type: ignore[misc]
    """Sends each event once; where Celery would try for ever, the connection counts as lost.

    Celery sends its heartbeats in the event loop, and tries each until it is sent: as long as the
    broker is away the worker would neither say so nor end at a signal. What Celery tries once goes
    on being kept until the next connection. A broker that is silent is waited for once: what else
    is to be sent over this connection fails at once.
    """

    buffer_while_offline: bool
    connection: Any
    _outbound_buffer: Any

    def _publish(
        self, event: Any, producer: Any, routing_key: str, retry: bool = False, **options: Any
    ) -> None:
        # In the dispatcher's lock, as everything that is sent.
        is_kept, self.buffer_while_offline = self.buffer_while_offline, False
        try:
            super()._publish(event, producer, routing_key, **options)  # type: ignore[misc]
        except Exception as error:
            if self.connection is not None and not answer_in(error):
                give_up(self.connection)
            if retry or not is_kept:
                raise
            self._outbound_buffer.append((event, routing_key))
        finally:
            self.buffer_while_offline = is_kept


class RunnerEvents(Events):  # type: ignore[misc]
    dispatcher_cls = "runners.worker.events:RunnerDispatcher"
