"""The Celery worker of a runner: configured by Forge before Celery sees any option."""

from __future__ import annotations

import gc
import logging
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import redis
from celery import bootsteps
from celery.apps.worker import Worker
from celery.concurrency.thread import TaskPool
from celery.worker import state

from runners.worker import channel
from runners.worker.agent import Agent
from runners.worker.broker_watch import answer_in
from runners.worker.celery import ignore_overrides
from runners.worker.configuration import Configuration, require_loopback
from runners.worker.consumer import ListenStep, RunnerConsumer, make_queue, waker
from runners.worker.errors import AccountMissingError, BrokerError, say
from runners.worker.host_watch import STARTS
from runners.worker.patience import await_forge, ending_at_signals, is_worth_a_wait
from runners.worker.protocol import MAXIMUM_SLOTS, ConnectReply
from runners.worker.shutdown import Shutdown, ignore_what_means_nothing
from runners.worker.supervision import HostError, hide_memory
from runners.worker.tls import may_tls_pass
from runners.worker.tokens import BrokerCredentials
from runners.worker.trial import require_threads
from runners.worker.tunnel import Tunnel

logger = logging.getLogger(__name__)

BROKER_PATIENCE_SECONDS = 10.0
BROKER_PAUSE_SECONDS = 0.2
# How long one BRPOP waits. It bounds how soon a new queue is heard, not how soon a task is.
BRPOP_SECONDS = 5
EVENT_HEARTBEAT_SECONDS = 10


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
        # A task of the same user could otherwise read the token in /proc.
        hide_memory()
        ignore_what_means_nothing()
        require_threads()
        app.steps["worker"].add(AgentStep)
        app.steps["consumer"].add(ListenStep)
        agent = app.agent = Agent(Configuration.from_environment(os.environ))
        with ending_at_signals():
            broker = reach(app, agent)
        welcome = agent.get_ready()
        configure(app, agent, broker)
        super().__init__(
            app=app,
            hostname=welcome.node_name,
            pool_cls=WakingPool,
            consumer_cls=RunnerConsumer,
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

    def install_platform_tweaks(self, worker: Any) -> None:
        # As it was when the process was started: Celery would replace it.
        outlives_terminal = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        super().install_platform_tweaks(worker)
        Shutdown(self.app.agent).install(outlives_terminal=outlives_terminal)

    def on_stopped(self) -> None:
        """The pool has ended: hand over what the journal holds."""
        self.app.agent.close()
        super().on_stopped()
        # Nothing is left to be collected, and on a busy host the look at everything takes seconds.
        gc.freeze()


def reach(app: Any, agent: Agent) -> str:
    """Connect to Forge and sign in at the broker; what is worth a wait is waited for.

    While only the broker is waited for, Forge hears that, and what the journal holds.
    Returns the broker's address. Raises WorkerError, and SystemExit on a signal to end.
    """

    is_known = False

    def attempt() -> str:
        welcome = agent.connect()
        credentials = BrokerCredentials(agent.account, agent.configuration.tokens)
        app.credentials = credentials if agent.tunnel is None else None
        try:
            url = check_broker(agent.configuration, welcome, app.credentials, agent.tunnel)
        except BrokerError as error:
            if is_worth_a_wait(error, is_known=is_known):
                agent.broker.note_failure(error)
                agent.keep_in_touch()
            raise
        if agent.broker.note_presence():
            agent.ask_forge()
        return url

    agent.shut_down = _end_the_wait
    try:
        is_known = agent.known.has(agent.configuration.tokens.current())
        return await_forge(attempt, is_known=is_known)
    except BaseException:
        agent.give_up()
        raise
    finally:
        agent.shut_down = lambda reason: None


def _end_the_wait(reason: str) -> None:
    """Forge tells a worker to end that has not begun: it ends as at a signal."""
    say(reason)
    os.kill(os.getpid(), signal.SIGTERM)


def broker_url(welcome: ConnectReply, tunnel: Tunnel | None) -> str:
    """Where Celery finds the broker, without user and password. Raises ConfigurationError.

    Through the tunnel none is needed: Forge signs in. At an address of its own Celery asks
    BrokerCredentials.
    """
    if tunnel is not None:
        return f"redis+socket://{quote(tunnel.path)}"
    parts = urlsplit(welcome.broker_url)
    if parts.scheme == "redis":
        require_loopback("The broker", "redis://", parts.hostname or "", "rediss://")
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def check_broker(
    configuration: Configuration,
    welcome: ConnectReply,
    credentials: redis.CredentialProvider | None,
    tunnel: Tunnel | None,
) -> str:
    """Sign in and write once, so that a wrong address ends the start instead of filling the log.

    The broker may have been restarted a moment ago, and the controller is about to restore
    its accounts: refusals are worth some patience. Returns the broker's address, as `broker_url`.
    Raises ConfigurationError and BrokerError, AccountMissingError among them.
    """
    url = broker_url(welcome, tunnel)
    deadline = time.monotonic() + BROKER_PATIENCE_SECONDS
    options: dict[str, Any] = {"socket_timeout": BROKER_PATIENCE_SECONDS}
    if tunnel is None:
        options["socket_connect_timeout"] = BROKER_PATIENCE_SECONDS / 2
        options["credential_provider"] = credentials
        options |= tls_options(configuration, url)
    # Beside what Celery keeps there; a set without members is gone.
    place = f"{welcome.key_prefix}_kombu.try.runner-{welcome.runner}"
    while True:
        try:
            with redis.Redis.from_url(url.replace("redis+socket", "unix", 1), **options) as client:
                client.sadd(place, "")
                client.srem(place, "")
            return url
        except redis.RedisError as error:
            if time.monotonic() > deadline:
                raise _broker_error(url, error, tunnel) from error
            if tunnel is not None:
                tunnel.mend()
            time.sleep(BROKER_PAUSE_SECONDS)


def tls_options(configuration: Configuration, url: str) -> dict[str, Any]:
    """redis-py's options for a broker at an address of its own that speaks TLS."""
    trust = configuration.trust
    if not url.startswith("rediss:"):
        return {}
    return {
        "ssl_cert_reqs": "required",
        "ssl_ca_certs": trust.ca_file,
        "ssl_certfile": trust.client_certificate,
        "ssl_keyfile": trust.client_key,
    }


def _broker_error(url: str, error: redis.RedisError, tunnel: Tunnel | None) -> BrokerError:
    trouble = _broker_trouble(url, error, tunnel)
    if tunnel is None:
        is_account_missing = isinstance(error, redis.AuthenticationError)
    else:
        is_account_missing = tunnel.is_account_missing and not answer_in(error)
    if is_account_missing:
        return AccountMissingError(trouble)
    return BrokerError(trouble, may_pass=may_tls_pass(error))


def _broker_trouble(url: str, error: redis.RedisError, tunnel: Tunnel | None) -> str:
    if answer := answer_in(error):
        return (
            f"The broker refuses to serve this runner ({answer}). Whoever runs Forge has to see "
            "to the broker."
        )
    if tunnel is not None:
        return tunnel.trouble or f"The broker does not answer through the tunnel ({error})."
    place = urlsplit(url).netloc
    if isinstance(error, redis.AuthenticationError):
        return (
            f"The broker at {place} refuses this runner's account. Check that the Forge "
            "controller runs: it keeps the accounts."
        )
    return f"The broker at {place} cannot be reached ({error}). Check the network to it."


def configure(app: Any, agent: Agent, broker: str) -> None:
    """Everything that Celery reads, whatever the command line said before."""
    welcome = agent.welcome
    channel.use()
    app.conf.update(
        broker_url=broker,
        broker_use_ssl=tls_options(agent.configuration, broker) or None,
        broker_transport_options={
            "global_keyprefix": welcome.key_prefix,
            # No acknowledgement keys and no priority lists: the account may only BRPOP.
            "ack_emulation": False,
            "priority_steps": [0],
            "polling_interval": BRPOP_SECONDS,
            "socket_connect_timeout": 5,
            # Longer than a BRPOP, which is waited for when a channel is closed.
            "socket_timeout": BRPOP_SECONDS + 3,
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
        worker_enable_prefetch_count_reduction=False,
        control_queue_expires=None,
        event_queue_expires=60,
    )


class Threads(ThreadPoolExecutor):
    """Keeps what it is given where the host gives this process no thread for it.

    It runs when another thread is free, or when one is to be had: `revive`. Forge puts its hint out
    again meanwhile, and whoever comes too late is refused.
    """

    def __init__(self, most: int, hindered: Callable[[Exception], None]) -> None:
        super().__init__(max_workers=most)
        self._hindered = hindered

    def _adjust_thread_count(self) -> None:
        """What `submit` calls last; its error would end the event loop, and the work stay."""
        try:
            super()._adjust_thread_count()  # type: ignore[misc]
        except RuntimeError as error:
            self._hindered(HostError(f"no thread for the task: {error}"))

    def revive(self) -> None:
        if self._work_queue.qsize():
            with suppress(RuntimeError):  # the worker ends
                self.submit(lambda: None)


class WakingPool(TaskPool):  # type: ignore[misc]
    """A thread pool that tells the event loop when a slot is free: it fetches the next hint.

    It has as many slots as Forge says at the moment. Threads are started when there is work for
    them, and what is fetched is bounded by `num_processes`.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        agent: Agent = self.app.agent
        hindered = partial(agent.watch.note, STARTS)
        self.executor = Threads(MAXIMUM_SLOTS, hindered)
        agent.revive = self.executor.revive

    @property
    def num_processes(self) -> int:
        slots: int = self.app.agent.runs.slots
        return slots

    def on_apply(self, *arguments: Any, **options: Any) -> Any:
        answer = super().on_apply(*arguments, **options)
        answer.f.add_done_callback(lambda future: waker.wake())
        return answer


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
        hub.add_reader(waker.reader, waker.drain)

    def _leave(self, status: int) -> None:
        state.should_stop = status  # type: ignore[assignment]
        waker.wake()
