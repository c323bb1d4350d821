"""The half of the Celery worker that holds the broker connection."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import random
import socket
import time
import warnings
from typing import Any

import redis
from celery import bootsteps
from celery.exceptions import CPendingDeprecationWarning
from celery.signals import worker_shutting_down
from celery.worker import state
from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown
from kombu import Exchange, Queue

from runners.worker.agent import Agent
from runners.worker.channel import RunnerChannel

logger = logging.getLogger(__name__)

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 2.0
# How long the broker may take to notice that this worker has hung up.
HANG_UP_SECONDS = 0.5
REFUSED_SECONDS = 5.0
_DEFAULT_EXCHANGE = Exchange("")


def make_queue(name: str) -> Queue:
    return Queue(name, _DEFAULT_EXCHANGE, routing_key=name, no_declare=True)


class RunnerConsumer(Consumer):  # type: ignore[misc]
    """Comes back for ever, soon, spread over time, and with one line in the log each way.

    Celery's own pauses grow to half a minute, which a queued task would wait after an outage.
    """

    _is_away = False
    _was_lost = False

    @property
    def _agent(self) -> Agent:
        app: Any = self.app
        agent: Agent = app.agent
        return agent

    def ensure_connected(self, conn: Any) -> Any:
        conn.ensure_connection(
            self._note_absence,
            interval_start=FIRST_PAUSE * random.random(),  # noqa: S311
            interval_step=FIRST_PAUSE,
            interval_max=LONGEST_PAUSE * random.uniform(0.5, 1.0),  # noqa: S311
            callback=maybe_shutdown,
        )
        self.first_connection_attempt = False
        if self._agent.broker.note_presence():
            self._agent.ask_forge()
        if self._is_away or self._was_lost:
            self._is_away = self._was_lost = False
            logger.warning("The broker answers again.")
        return conn

    def _note_absence(self, error: Exception, pause: float) -> None:
        tunnel = self._agent.tunnel
        self._agent.broker.note_absence((tunnel and tunnel.trouble) or str(error))
        if not self._is_away:
            self._is_away = True
            logger.warning("The broker is away (%s). Running tasks go on.", error)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        # Celery says so; who reads that must also read how it ended, if the first try succeeds too.
        self._was_lost = True
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


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _wake_to_end(**ignored: Any) -> None:
    """In the handler of TERM, INT or QUIT: the event loop looks at once whether it should end."""
    waker.wake()


def hang_up(consumer: Any) -> None:
    """End the BRPOP that is under way: the worker would wait for it before it ends, and until
    then it could still take a hint, for nobody.

    Only the sending side is closed at first, and what the broker had sent before it noticed is
    read. A hint that was popped at this very moment is carried out like the ones before it; in a
    cold shutdown it is dropped, and put out again.
    """
    channel: Any = consumer.task_consumer.channel if consumer.task_consumer else None
    connection: Any = channel._in_poll if channel is not None else None
    if not connection or connection._sock is None:
        return
    with contextlib.suppress(queue.Empty, OSError, redis.RedisError):
        if state.should_terminate is None and channel.qos.can_consume():
            connection._sock.settimeout(HANG_UP_SECONDS)
            # Not the method of a TLS socket, which would stop to decrypt as well.
            socket.socket.shutdown(connection._sock, socket.SHUT_WR)
            channel._brpop_read()
    connection.disconnect()
    channel._in_poll = None


class ListenStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Keeps the consumer's queues equal to what Forge says, and notices a cut connection."""

    requires = ("celery.worker.consumer.tasks:Tasks",)
    _refused_at = 0.0

    def start(self, consumer: Any) -> None:
        agent: Agent = consumer.app.agent
        agent.listen = lambda queues: self._listen(consumer, queues)
        RunnerChannel.refused = staticmethod(lambda: self._stand_back(consumer))
        agent.choose_queues()

    def _stand_back(self, consumer: Any) -> None:
        """The broker refused a queue: take none until Forge has said which are this runner's.

        In the event loop's thread, between two reads. Forge is asked at once, but not over and over
        where it names what the broker refuses: the broker counts what it has to refuse.
        """
        agent: Agent = consumer.app.agent
        now = time.monotonic()
        is_first, self._refused_at = now - self._refused_at > REFUSED_SECONDS, now
        if {one.name for one in consumer.task_consumer.queues} == {agent.account}:
            time.sleep(REFUSED_SECONDS * random.uniform(0.5, 1.0))  # noqa: S311
            return
        _set_queues(consumer, (agent.account,))
        if is_first:
            agent.ask_forge()

    def stop(self, consumer: Any) -> None:
        """The worker ends; or the broker went away, or cut us off: only Forge can say which."""
        if state.should_stop is not None or state.should_terminate is not None:
            hang_up(consumer)
        else:
            consumer.app.agent.ask_forge()

    def _listen(self, consumer: Any, queues: tuple[str, ...]) -> None:
        listening = consumer.task_consumer
        if listening is None or consumer.hub is None:
            return  # not connected just now; the next heartbeat brings the queues again
        if {one.name for one in listening.queues} != set(queues):
            consumer.hub.call_soon(_set_queues, consumer, queues)
            waker.wake()


def _set_queues(consumer: Any, names: tuple[str, ...]) -> None:
    """In the event loop's thread: the consumer is not thread-safe."""
    if consumer.task_consumer is None:
        return
    known = {one.name for one in consumer.task_consumer.queues}
    new = [name for name in names if name not in known]
    over = sorted(known - set(names))
    for name in new:
        found = make_queue(name)
        consumer.app.amqp.queues.select_add(found)
        consumer.task_consumer.add_queue(found)
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
