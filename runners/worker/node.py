"""The Celery worker of a runner: configured by Forge before Celery sees any option."""

from __future__ import annotations

import logging
import os
import threading
import time
import warnings
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import redis
from celery import bootsteps
from celery.apps.worker import Worker
from celery.concurrency.thread import TaskPool
from celery.exceptions import CPendingDeprecationWarning
from celery.worker import state
from kombu import Exchange, Queue

from runners.worker.agent import Agent
from runners.worker.celery import ignore_overrides
from runners.worker.configuration import Configuration, require_loopback
from runners.worker.errors import BrokerError
from runners.worker.protocol import ConnectReply
from runners.worker.tokens import BrokerCredentials

logger = logging.getLogger(__name__)

BROKER_PATIENCE_SECONDS = 10.0
# How long one BRPOP waits. It bounds how soon a new queue is heard, not how soon a task is.
BRPOP_SECONDS = 5
EVENT_HEARTBEAT_SECONDS = 10
_DEFAULT_EXCHANGE = Exchange("")


class RunnerWorker(Worker):
    """Takes nothing from the command line but how and where to log."""

    def __init__(
        self,
        app: Any = None,
        loglevel: Any = None,
        logfile: Any = None,
        pidfile: Any = None,
        no_color: Any = None,
        quiet: bool = False,
        **ignored: Any,
    ) -> None:
        app = app or self.app
        ignore_overrides()
        app.steps["worker"].add(AgentStep)
        app.steps["consumer"].add(ListenStep)
        agent = app.agent = Agent(Configuration.from_environment(os.environ))
        welcome = agent.connect()
        app.credentials = BrokerCredentials(agent.account, agent.configuration.tokens)
        broker = broker_url(welcome)
        check_broker(broker, app.credentials)
        configure(app, welcome, broker)
        hush()
        super().__init__(
            app=app,
            hostname=welcome.node_name,
            pool_cls=WakingPool,
            concurrency=welcome.concurrency,
            without_gossip=True,
            without_mingle=True,
            heartbeat_interval=EVENT_HEARTBEAT_SECONDS,
            task_events=True,
            optimization="fair",
            loglevel=loglevel,
            logfile=logfile,
            pidfile=pidfile,
            no_color=no_color,
            quiet=quiet,
        )

    def on_stopped(self) -> None:
        """The pool has ended: hand over what the journal holds."""
        self.app.agent.close()
        super().on_stopped()


def broker_url(welcome: ConnectReply) -> str:
    """The URL that Forge gave, without user and password. Raises ConfigurationError."""
    parts = urlsplit(welcome.broker_url)
    if parts.scheme == "redis":
        require_loopback("The broker", "redis://", parts.hostname or "", "rediss://")
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def check_broker(url: str, credentials: BrokerCredentials) -> None:
    """Sign in once, so that a wrong address ends the start instead of filling the log.

    The broker may have been restarted a moment ago, and the controller is about to restore
    its accounts: refusals are worth some patience. Raises BrokerError.
    """
    deadline = time.monotonic() + BROKER_PATIENCE_SECONDS
    while True:
        try:
            with redis.Redis.from_url(
                url,
                credential_provider=credentials,
                socket_connect_timeout=5,
                socket_timeout=5,
            ) as client:
                client.ping()
            return
        except redis.RedisError as error:
            if time.monotonic() > deadline:
                raise BrokerError(_broker_trouble(url, error)) from error
            time.sleep(0.2)


def _broker_trouble(url: str, error: redis.RedisError) -> str:
    place = urlsplit(url).netloc
    if isinstance(error, redis.AuthenticationError):
        return (
            f"The broker at {place} refuses this runner's account. Check that the Forge "
            "controller runs: it keeps the accounts."
        )
    return f"The broker at {place} cannot be reached ({error}). Check the network to it."


def make_queue(name: str) -> Queue:
    return Queue(name, _DEFAULT_EXCHANGE, routing_key=name, no_declare=True)


def hush() -> None:
    """A lost connection is one line here; Celery adds ten about a default of its next version."""
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)


def configure(app: Any, welcome: ConnectReply, broker: str) -> None:
    """Everything that Celery reads, whatever the command line said before."""
    app.conf.update(
        broker_url=broker,
        broker_transport_options={
            "global_keyprefix": welcome.key_prefix,
            # No acknowledgement keys and no priority lists: the account may only BRPOP.
            "ack_emulation": False,
            "priority_steps": [0],
            "polling_interval": BRPOP_SECONDS,
            "socket_connect_timeout": 5,
            "socket_timeout": BRPOP_SECONDS + 10,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
        # For ever: a runner outlives any outage of the broker.
        broker_connection_max_retries=None,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_heartbeat=0,
        result_backend="runners.worker.backend:ForgeBackend",
        task_queues=[make_queue(name) for name in welcome.queues],
        task_default_queue=welcome.queues[0],
        task_create_missing_queues=False,
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        task_acks_late=False,
        task_track_started=False,
        task_ignore_result=False,
        task_store_errors_even_if_ignored=True,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_send_task_events=True,
        worker_enable_remote_control=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_soft_shutdown_timeout=0,
        worker_hijack_root_logger=True,
        worker_redirect_stdouts=False,
        control_queue_expires=None,
        event_queue_expires=60,
    )


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


_waker = Waker()


class WakingPool(TaskPool):  # type: ignore[misc]
    """A thread pool that tells the event loop when a slot is free: it fetches the next hint."""

    def on_apply(self, *arguments: Any, **options: Any) -> Any:
        answer = super().on_apply(*arguments, **options)
        answer.f.add_done_callback(lambda future: _waker.wake())
        return answer

    def terminate_job(self, pid: int, signal: int | None = None) -> None:
        """Celery's cold shutdown asks this of each job: by QUIT, or by Ctrl-C a second time.

        In a thread: a signal handler must not wait for a lock that its own thread may hold.
        """
        reason = "The runner's worker was shut down."
        threading.Thread(target=self.app.agent.stop_all, args=(reason,), daemon=True).start()


class AgentStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Ties the agent's life to the worker's."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        self._agent: Agent = worker.app.agent
        self._agent.leave = self._leave
        super().__init__(worker, **options)

    def start(self, worker: Any) -> None:
        self._agent.begin()

    def register_with_event_loop(self, worker: Any, hub: Any) -> None:
        hub.add_reader(_waker.reader, _waker.drain)

    def _leave(self, status: int) -> None:
        state.should_stop = status  # type: ignore[assignment]
        _waker.wake()


class ListenStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Keeps the consumer's queues equal to what Forge says, and notices a cut connection."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        agent: Agent = consumer.app.agent
        agent.listen = lambda queues: self._listen(consumer, queues)

    def stop(self, consumer: Any) -> None:
        """The broker went away, or cut us off; only Forge can say which."""
        consumer.app.agent.heart.poke()

    def _listen(self, consumer: Any, queues: tuple[str, ...]) -> None:
        listening = consumer.task_consumer
        if listening is None or consumer.hub is None:
            return  # not connected just now; the next heartbeat brings the queues again
        known = {queue.name for queue in listening.queues}
        new = [name for name in queues if name not in known]
        if new:
            consumer.hub.call_soon(_add_queues, consumer, new)
            _waker.wake()


def _add_queues(consumer: Any, names: list[str]) -> None:
    """In the event loop's thread: the consumer is not thread-safe."""
    if consumer.task_consumer is None:
        return
    for name in names:
        queue = make_queue(name)
        consumer.app.amqp.queues.select_add(queue)
        consumer.task_consumer.add_queue(queue)
    consumer.task_consumer.consume()
    logger.info("Listening to %s as well.", ", ".join(names))
