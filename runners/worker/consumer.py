"""The half of the Celery worker that holds the broker connection."""

from __future__ import annotations

import logging
import os
import random
import warnings
from typing import Any

from celery import bootsteps
from celery.exceptions import CPendingDeprecationWarning
from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown
from kombu import Exchange, Queue

from runners.worker.agent import Agent

logger = logging.getLogger(__name__)

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 2.0
_DEFAULT_EXCHANGE = Exchange("")


def make_queue(name: str) -> Queue:
    return Queue(name, _DEFAULT_EXCHANGE, routing_key=name, no_declare=True)


class RunnerConsumer(Consumer):  # type: ignore[misc]
    """Comes back for ever, soon, spread over time, and with one line in the log each way.

    Celery's own pauses grow to half a minute, which a queued task would wait after an outage.
    """

    _is_away = False

    def ensure_connected(self, conn: Any) -> Any:
        conn.ensure_connection(
            self._note_absence,
            interval_start=FIRST_PAUSE * random.random(),  # noqa: S311
            interval_step=FIRST_PAUSE,
            interval_max=LONGEST_PAUSE * random.uniform(0.5, 1.0),  # noqa: S311
            callback=maybe_shutdown,
        )
        self.first_connection_attempt = False
        if self._is_away:
            self._is_away = False
            logger.warning("The broker answers again.")
        return conn

    def _note_absence(self, error: Exception, pause: float) -> None:
        if not self._is_away:
            self._is_away = True
            logger.warning("The broker is away (%s). Running tasks go on.", error)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        with warnings.catch_warnings():
            # Ten lines about a default of Celery's next version, which Forge sets itself.
            warnings.simplefilter("ignore", CPendingDeprecationWarning)
            super().on_connection_error_after_connected(exc)


class Waker:
    """Lets any thread wake the event loop, which otherwise looks up about once a second."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def wake(self) -> None:
        try:
            os.write(self._writer, b"x")
        except BlockingIOError:
            pass  # it is about to wake anyway

    def drain(self) -> None:
        try:
            os.read(self.reader, 4096)
        except BlockingIOError:
            pass


waker = Waker()


class ListenStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Keeps the consumer's queues equal to what Forge says, and notices a cut connection."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        agent: Agent = consumer.app.agent
        agent.listen = lambda queues: self._listen(consumer, queues)

    def stop(self, consumer: Any) -> None:
        """The broker went away, or cut us off; only Forge can say which."""
        consumer.app.agent.ask_forge()

    def _listen(self, consumer: Any, queues: tuple[str, ...]) -> None:
        listening = consumer.task_consumer
        if listening is None or consumer.hub is None:
            return  # not connected just now; the next heartbeat brings the queues again
        if {queue.name for queue in listening.queues} != set(queues):
            consumer.hub.call_soon(_set_queues, consumer, queues)
            waker.wake()


def _set_queues(consumer: Any, names: tuple[str, ...]) -> None:
    """In the event loop's thread: the consumer is not thread-safe."""
    if consumer.task_consumer is None:
        return
    known = {queue.name for queue in consumer.task_consumer.queues}
    new = [name for name in names if name not in known]
    over = sorted(known - set(names))
    for name in new:
        queue = make_queue(name)
        consumer.app.amqp.queues.select_add(queue)
        consumer.task_consumer.add_queue(queue)
    if new:
        consumer.task_consumer.consume()
        logger.warning("Listening to %s.", ", ".join(new))
    for name in over:
        _leave_queue(consumer, name)
    if over:
        logger.warning("No longer listening to %s.", ", ".join(over))


def _leave_queue(consumer: Any, name: str) -> None:
    """Take nothing more from a queue.

    What the pending BRPOP may still bring goes the usual way, and Forge decides at the claim. For
    a queue without a callback kombu would put the message back, which no runner's account may do.
    """
    callbacks = consumer.task_consumer.channel.connection._callbacks
    callback = callbacks.get(name)
    consumer.app.amqp.queues.deselect(name)
    consumer.task_consumer.cancel_by_queue(name)
    if callback is not None:
        callbacks[name] = callback
