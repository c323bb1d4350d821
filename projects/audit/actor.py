"""Who acts at the moment, and how: set where a request, a command or a runner comes in.

Operations need to know this and are not told: the context carries it, in a variable that each
thread and each event loop's task has for itself. Where nobody set it, the system itself acts.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from django.db.models import TextChoices

MAXIMUM_NAME = 150


class Way(TextChoices):
    """How somebody acted."""

    PAGE = "page", "Page"
    API_TOKEN = "api_token", "API token"
    API_SESSION = "api_session", "API, signed in"
    ADMIN = "admin", "Admin"
    COMMAND = "command", "Command line"
    RUNNER = "runner", "Runner"
    SYSTEM = "system", "System"


@dataclass(frozen=True)
class Actor:
    """Who acts. `name` is a user's name, a runner's, or what a command line's account is called.

    `means`: the name of the API token, the command, or the registration token that was used.
    """

    way: Way
    name: str = ""
    user_id: int | None = None
    means: str = ""
    address: str | None = None


SYSTEM = Actor(Way.SYSTEM, "Forge")
Source = Callable[[], Actor]
_source: ContextVar[Source | None] = ContextVar("who_acts", default=None)


def current() -> Actor:
    """Whoever acts now."""
    source = _source.get()
    return SYSTEM if source is None else source()


@contextmanager
def acting(source: Source) -> Iterator[None]:
    """Within this, `source` says who acts; asked only when something is recorded."""
    token = _source.set(source)
    try:
        yield
    finally:
        _source.reset(token)


@contextmanager
def by_command(name: str) -> Iterator[None]:
    """Within this, whoever started `manage.py NAME` acts."""
    actor = Actor(Way.COMMAND, _account(), means=f"manage.py {name}")
    with acting(lambda: actor):
        yield


def _account() -> str:
    """The Unix account of this process."""
    try:
        return getpass.getuser()[:MAXIMUM_NAME]
    except (OSError, KeyError):
        return "an account without a name"
