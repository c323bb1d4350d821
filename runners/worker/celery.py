"""The Celery app of a runner host: `celery -A runners.worker worker`.

Nothing is configured here or on the command line. The worker asks Forge when it starts.
"""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any

from celery import Celery
from redis import CredentialProvider

from runners.worker.agent import Agent
from runners.worker.configuration import OVERRIDING_VARIABLES
from runners.worker.jobs import register


class RunnerApp(Celery):
    """A Celery app whose worker configures itself from Forge."""

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
        from runners.worker.node import RunnerWorker

        worker: type = self.subclass_with_self(RunnerWorker)
        return worker


def ignore_overrides() -> None:
    """Forget what Celery would read from the environment over the head of Forge."""
    for name in OVERRIDING_VARIABLES:
        os.environ.pop(name, None)


def make_app() -> RunnerApp:
    ignore_overrides()
    # fixups=[]: a stray DJANGO_SETTINGS_MODULE on the host must not load Django.
    app = RunnerApp("forge-runner", broker="memory://", fixups=[])
    register(app)
    return app


app: Any = make_app()
