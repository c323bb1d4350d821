"""What ends a worker, or makes it wait. Each error's text is the line that the operator reads."""

from __future__ import annotations

import contextlib
import sys
from typing import IO, Any

import click
from celery.exceptions import Terminated

from runners.worker.fields import printable

LONGEST_LINE = 1000


def say(sentence: str, file: IO[Any] | None = None) -> None:
    """One line for the operator, on standard error, whatever else is logged."""
    # Part of it may be what a server or a host said: it is read here, and nothing else.
    line = f"forge: {printable(sentence, LONGEST_LINE)}"
    with contextlib.suppress(OSError):  # a terminal that was closed; what is to be done goes on
        print(line, file=file or sys.stderr, flush=True)


class WorkerError(click.ClickException):
    """Base: shown as one line on standard error, without a traceback; exit status 2."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        say(self.message, file)


class ConfigurationError(WorkerError):
    """The environment lacks something or holds something unusable."""


class CrowdedError(WorkerError):
    """The host has too few threads or processes left to begin; that may pass by itself."""

    # As of what was not foreseen: a service manager that gives up at 2 tries again.
    exit_code = 1


class AlreadyRunningError(WorkerError):
    """Another worker on this host uses the same journal folder."""


class RevokedError(WorkerError):
    """Forge does not accept the token (any more). Only an HTTPS 401 means this.

    `code` says why: the runner was removed, a newer token has replaced this one, or unknown.
    """

    def __init__(self, message: str, code: str = "unauthorized") -> None:
        super().__init__(message)
        self.code = code

    def parting(self, url: str, *, has_tasks: bool) -> tuple[str, str]:
        """What the worker ends with, for its operator, and the reason of each task that runs."""
        # What does not say why comes from a Forge that has forgotten the runner altogether.
        if self.code in ("removed", "unauthorized"):
            tasks = "; its tasks were ended" if has_tasks else ""
            removed = f"This runner was removed from Forge at {url}{tasks}."
            return removed, "The runner was removed from Forge."
        tasks = " The runner's tasks were ended." if has_tasks else ""
        reason = self.message
        if self.code == "replaced":
            reason = (
                "The runner's token was ended: a newer one has replaced it, and its worker did "
                "not have that yet."
            )
        return self.message + tasks, reason


class RefusedError(WorkerError):
    """Forge understood and said no; `code` is its machine-readable reason."""

    def __init__(self, message: str, code: str = "refused") -> None:
        super().__init__(message)
        self.code = code


class UnreachableError(WorkerError):
    """No usable answer from Forge: not there, too slow, or in trouble. Trying again may help.

    `retry_after` is how many seconds Forge asked to be left alone for; 0 if it did not say.
    `may_pass` is False if somebody has to change something first, such as a certificate.
    `may_have_arrived` is False if Forge has certainly not acted upon the request.
    """

    def __init__(
        self,
        message: str,
        retry_after: float = 0.0,
        *,
        may_pass: bool = True,
        may_have_arrived: bool = True,
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.may_pass = may_pass
        self.may_have_arrived = may_have_arrived


class BrokerError(WorkerError):
    """The broker cannot be reached or does not accept this runner's account.

    `may_pass` as with UnreachableError: the controller restores accounts that a broker has lost.
    """

    retry_after = 0.0

    def __init__(self, message: str, *, may_pass: bool = True) -> None:
        super().__init__(message)
        self.may_pass = may_pass


class AccountMissingError(BrokerError):
    """Forge accepts the token, and its broker does not have the account.

    So neither address nor token is wrong: a broker that was started again has lost its accounts,
    and the controller restores them.
    """


class UnsuccessfulError(Exception):
    """An attempt ended, and not with success: how Celery is told, and Flower by it.

    The result backend makes the outcome of it again, as it was. Its text, which Celery puts into
    the worker's log and into events, is the reason, in which secrets are masked.
    """

    outcome = "failed"

    # By position: Celery makes it again from its arguments, and replaces what it cannot make.
    def __init__(self, exit_code: int | None, reason: str, is_cut_short: bool) -> None:
        super().__init__(exit_code, reason, is_cut_short)
        self.exit_code = exit_code
        self.reason = reason
        self.is_cut_short = is_cut_short

    def __str__(self) -> str:
        return self.reason

    # What Celery shows of an exception; the class's name would tell nobody anything.
    __repr__ = __str__


class TaskFailedError(UnsuccessfulError):
    """Celery calls it FAILURE."""


class TaskStoppedError(UnsuccessfulError, Terminated):
    """Celery calls it REVOKED, as it does what it terminates itself."""

    outcome = "stopped"
