"""The Celery app of a runner host: `celery -A runners.worker worker`.

Nothing is configured here or on the command line. The worker asks Forge when it starts.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from functools import cached_property
from typing import Any

import click
from celery import Celery
from redis import CredentialProvider

from runners.worker.agent import Agent
from runners.worker.configuration import OVERRIDING_VARIABLES
from runners.worker.errors import ConfigurationError
from runners.worker.jobs import register

_REAL = ("os", "select", "socket", "subprocess", "thread", "threading", "time")


class RunnerApp(Celery):
    """A Celery app whose worker configures itself from Forge."""

    events_cls = "runners.worker.events:RunnerEvents"
    agent: Agent
    credentials: CredentialProvider | None = None

    def _connection(self, url: str, *arguments: Any, **options: Any) -> Any:
        """As Celery's; the connection signs in with the token of the moment, not with a URL's.

        Celery has no setting for this; every connection of an app, pools included, is made here.
        """
        connection = super()._connection(url, *arguments, **options)  # type: ignore[misc]
        connection.credential_provider = self.credentials
        return connection

    @cached_property
    def Worker(self) -> type:  # noqa: N802  # the name that Celery's command line looks for
        refuse_green_threads()
        from runners.worker.node import RunnerWorker

        worker: type = self.subclass_with_self(RunnerWorker)
        return worker


def refuse_green_threads() -> None:
    """Raise ConfigurationError if threads, sockets and locks are no longer the system's own.

    Celery replaces them when it reads `-P eventlet` or `-P gevent`, before anything of Forge's is
    imported. Supervisors are forked and waited for with real ones, and tasks would hang.
    """
    gevent = sys.modules.get("gevent.monkey")
    eventlet = sys.modules.get("eventlet.patcher")
    if gevent is not None and any(map(gevent.is_module_patched, _REAL)):
        name = "gevent"
    elif eventlet is not None and any(map(eventlet.is_monkey_patched, _REAL)):
        name = "eventlet"
    else:
        return
    raise ConfigurationError(
        f"A runner does not work with {name}'s green threads. Take -P or --pool off the command "
        "line: Forge sets the pool and how many tasks run at once."
    )


def ignore_overrides() -> None:
    """Forget what Celery would read from the environment over the head of Forge."""
    for name in OVERRIDING_VARIABLES:
        os.environ.pop(name, None)


def refuse_to_detach(context: click.Context, option: click.Parameter, given: bool) -> None:
    """Raise ConfigurationError for `-D`.

    It returns 0 whatever happens, throws away each line that says what to do, and looks for
    the program in `/`.
    """
    if context.params.get("detach"):
        raise ConfigurationError(
            "A detached worker cannot say why it does not start. Take -D or --detach off the "
            "command line, and run it under a service manager such as systemd."
        )


def tell_threads_at_usr1() -> None:
    """USR1 writes where each thread is to the standard error, from now on.

    So Celery does it too, but only once Forge and its broker have answered, which may take long:
    until then USR1 would end the process.
    """
    if sys.__stderr__ is not None:
        faulthandler.register(signal.SIGUSR1, file=sys.__stderr__, all_threads=True)


def make_app() -> RunnerApp:
    tell_threads_at_usr1()
    ignore_overrides()
    # fixups=[]: a stray DJANGO_SETTINGS_MODULE on the host must not load Django.
    app = RunnerApp("forge-runner", broker="memory://", fixups=[])
    # Celery's command line looks at nothing else of an app before it detaches. An option that is
    # not given is looked at after those that are.
    look = click.Option(["--forge"], is_flag=True, hidden=True, callback=refuse_to_detach)
    app.user_options["worker"].add(look)
    register(app)
    return app


app: Any = make_app()
