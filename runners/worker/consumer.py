"""The half of the Celery worker that holds the broker connection."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import random
import select
import socket
import threading
import time
import warnings
from collections.abc import Iterator
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
from runners.worker.broker_watch import answer_in
from runners.worker.channel import RunnerChannel, cut, give_up

logger = logging.getLogger(__name__)
_celerys_logger = logging.getLogger("celery.worker.consumer.consumer")

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 2.0
# Each try at a broker that refuses costs it several connections.
LONGEST_REFUSED_PAUSE = 5.0
MOST_DOUBLINGS = 10
# A broker that is to refuse something has done so before a connection has lasted this long.
SETTLED_SECONDS = 1.0
# How long the broker may take to notice that this worker has hung up.
HANG_UP_SECONDS = 0.5
REFUSED_SECONDS = 5.0
_DEFAULT_EXCHANGE = Exchange("")


def make_queue(name: str) -> Queue:
    return Queue(name, _DEFAULT_EXCHANGE, routing_key=name, no_declare=True)


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


class RunnerConsumer(Consumer):  # type: ignore[misc]
    """Comes back for ever, soon, spread over time, and with one line in the log each way.

    Celery's own pauses grow to half a minute, which a queued task would wait after an outage. A
    broker that answers with errors is away as well, though it can be connected to.
    """

    _is_away = False
    # In a row, each of a connection that was made and served this worker too shortly.
    _failures = 0
    _pause = 0.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._said = set[str]()

    @property
    def _agent(self) -> Agent:
        app: Any = self.app
        agent: Agent = app.agent
        return agent

    def start(self) -> None:
        try:
            super().start()
        except Exception:
            # Nobody has foreseen it. The tasks go on to their ends, and so does what tells Forge of
            # them, so that this worker would look as if it took more.
            self._agent.drain()
            logger.error(
                "The worker has come to harm and no longer hears of tasks. What runs goes on, and "
                "then the worker ends."
            )
            raise

    def connect(self) -> Any:
        self._rest()
        return super().connect()

    def _rest(self) -> None:
        """The pause before another try; a signal to end cuts it short."""
        deadline, self._pause = time.monotonic() + self._pause, 0.0
        while (left := deadline - time.monotonic()) > 0:
            maybe_shutdown()
            select.select([waker.reader], [], [], left)
            waker.drain()

    def ensure_connected(self, conn: Any) -> Any:
        conn.ensure_connection(
            self._note_absence,
            interval_start=FIRST_PAUSE * random.random(),  # noqa: S311
            interval_step=FIRST_PAUSE,
            interval_max=LONGEST_PAUSE * random.uniform(0.5, 1.0),  # noqa: S311
            callback=maybe_shutdown,
        )
        self.first_connection_attempt = False
        return conn

    def note_presence(self) -> None:
        """The broker has served this worker for a while: all that it needs was allowed to it."""
        was_lost = self._is_away or bool(self._said) or self._failures > 0
        self._is_away, self._failures = False, 0
        self._said.clear()
        if was_lost:
            logger.warning("The broker answers again.")
        if self._agent.broker.note_presence():
            self._agent.ask_forge()

    def _note_absence(self, error: Exception, pause: float = 0.0) -> None:
        if answer := answer_in(error):
            self._note_refusal(answer)
            return
        tunnel = self._agent.tunnel
        if tunnel is not None:
            tunnel.mend()
        self._agent.broker.note_absence((tunnel and tunnel.trouble) or str(error))
        if not self._is_away:
            self._is_away = True
            logger.warning("The broker is away (%s). Running tasks go on.", error)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        is_first = not self._failures
        self._failures += 1
        says_more = bool(answer_in(exc)) or not is_first
        if says_more:
            self._note_absence(exc)
            self._pause = _pause_after(exc, self._failures)
        for one in _connections(self):
            give_up(one)
        if is_first:
            # The broker went away, or cut us off, or has changed: only Forge can say which.
            self._agent.ask_forge()
        with warnings.catch_warnings(), _celery_is_silent(is_silent=says_more):
            # Ten lines about a default of Celery's next version, which Forge sets itself.
            warnings.simplefilter("ignore", CPendingDeprecationWarning)
            super().on_connection_error_after_connected(exc)

    def _note_refusal(self, answer: str) -> None:
        self._agent.broker.note_refusal(answer)
        if answer not in self._said:
            self._said.add(answer)
            logger.warning(
                "The broker refuses to serve this runner (%s). Running tasks go on, and it is "
                "tried again.",
                answer,
            )


def _pause_after(error: Exception, failures: int) -> float:
    """In seconds; random, so that a thousand workers do not come back in the same instant."""
    longest = min(FIRST_PAUSE * 2.0 ** min(failures, MOST_DOUBLINGS), LONGEST_REFUSED_PAUSE)
    if isinstance(error, redis.exceptions.NoPermissionError):
        longest = REFUSED_SECONDS  # the broker counts what it has to refuse
    return longest * random.uniform(0.5, 1.0)  # noqa: S311


@contextlib.contextmanager
def _celery_is_silent(*, is_silent: bool) -> Iterator[None]:
    """Without Celery's line about a lost connection, where another line has said more."""

    def passes(record: logging.LogRecord) -> bool:
        return not is_silent or record.thread != threading.get_ident()

    _celerys_logger.addFilter(passes)
    try:
        yield
    finally:
        _celerys_logger.removeFilter(passes)


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _wake_to_end(**ignored: Any) -> None:
    """In the handler of TERM, INT or QUIT: the event loop looks at once whether it should end."""
    waker.wake()


def _connections(consumer: Any) -> list[Any]:
    """Those to the broker, of which the second is for events."""
    dispatcher = getattr(consumer, "event_dispatcher", None)
    found = (consumer.connection, dispatcher and dispatcher.connection)
    return [one for one in found if one is not None]


def _cut(consumer: Any) -> None:
    for one in _connections(consumer):
        cut(one)


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

    # Control is the last to ask the broker for anything.
    requires = (
        "celery.worker.consumer.tasks:Tasks",
        "celery.worker.consumer.control:Control",
    )
    _refused_at = 0.0
    _has_listened = False

    def start(self, consumer: Any) -> None:
        agent: Agent = consumer.app.agent
        agent.listen = lambda queues: self._listen(consumer, queues)
        agent.cut = lambda: _cut(consumer)
        RunnerChannel.refused = staticmethod(lambda: self._stand_back(consumer))
        agent.choose_queues()
        if not self._has_listened:
            # The heartbeat has waited for this.
            self._has_listened = True
            agent.ask_forge()
        # Forgotten with all that is timed for this connection, if it is lost before.
        consumer.timer.call_after(SETTLED_SECONDS, consumer.note_presence)

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
        if state.should_stop is not None or state.should_terminate is not None:
            hang_up(consumer)

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
        # What is pending waits for messages of the queues before, up to BRPOP_SECONDS.
        if consumer.app.agent.tunnel is not None:
            consumer.app.agent.tunnel.listen_anew()
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
