"""Asking Forge for one attempt, until it is known whether it is this worker's."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from runners.worker.client import Client, spread_pause
from runners.worker.entry import Entry
from runners.worker.errors import RefusedError, UnreachableError, WorkerError
from runners.worker.lease import Lease
from runners.worker.protocol import ClaimRequest, Job
from runners.worker.supervision import boot_seconds

LONGEST_PAUSE = 5.0
# How soon a pause notices that the worker is to end.
LOOK_SECONDS = 0.5


class LeavingError(Exception):
    """The worker ends without the answer."""


class Claims:
    """is_draining: nothing new is to be taken; is_leaving: answers are waited for no longer."""

    def __init__(
        self,
        client: Client,
        *,
        session: str,
        is_draining: threading.Event,
        is_leaving: threading.Event,
    ) -> None:
        self._client = client
        self._session = session
        self._is_draining = is_draining
        self._is_leaving = is_leaving

    def claim(self, entry: Entry, *, may_be_ours: bool = False) -> tuple[Job, Lease]:
        """Ask until there is an answer: a lost answer may have given us the task.

        One that took long is asked for again: Forge may have given up this attempt meanwhile. While
        the worker drains, Forge is told so, and gives it only what it has given it already.

        may_be_ours: Forge may have given it already, so that it has to be asked in any case.
        Raises RefusedError if the task is not this worker's, RevokedError, and LeavingError.
        """
        pause = 0.1
        while not self._is_leaving.is_set():
            is_draining = self._is_draining.is_set()
            if is_draining and not may_be_ours:
                raise RefusedError("the worker takes nothing new")
            request = ClaimRequest(
                entry.task,
                entry.attempt,
                entry.nonce,
                keeps_leases=True,
                is_draining=is_draining,
                session=self._session,
            )
            sent = boot_seconds()
            try:
                job = self._client.claim(request)
            except UnreachableError as error:
                may_be_ours = may_be_ours or error.may_have_arrived
                self._wait(spread_pause(pause, error.retry_after), unless=self._drains_anew())
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            lease = Lease(sent=sent, seconds=job.lease_seconds, is_fenced=job.is_fenced)
            if boot_seconds() < lease.until:
                return job, lease
            may_be_ours = True
        raise LeavingError

    def hand_back(self, task: int, attempt: int) -> None:
        """A hint was popped for which nothing is claimed: Forge puts it out again, for others.

        It is told by a claim that it never grants. Where that does not arrive, Forge misses the
        hint by itself, if later: the next in line may start before this one then.
        """
        if self._is_leaving.is_set():
            return
        nonce = secrets.token_hex(16)
        request = ClaimRequest(task, attempt, nonce, is_draining=True, session=self._session)
        with suppress(WorkerError):
            self._client.claim(request)

    def _drains_anew(self) -> Callable[[], bool]:
        """Whether the order to take nothing new has come since now."""
        before = self._is_draining.is_set()
        return lambda: self._is_draining.is_set() != before

    def _wait(self, seconds: float, *, unless: Callable[[], bool]) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not unless():
            if self._is_leaving.wait(min(left, LOOK_SECONDS)):
                return
