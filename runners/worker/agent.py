"""Everything that one worker process holds, and what happens to it."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from celery.exceptions import Ignore

from runners.worker.client import Client, spread_pause
from runners.worker.configuration import Configuration
from runners.worker.errors import LONGEST_LINE, RefusedError, RevokedError, UnreachableError
from runners.worker.execution import Outcome, Run
from runners.worker.failpoints import reached
from runners.worker.fields import printable
from runners.worker.heart import Heart
from runners.worker.host import system
from runners.worker.journal import Entry, Journal
from runners.worker.lease import Lease
from runners.worker.leftovers import Predecessor, close_leftover
from runners.worker.protocol import (
    PROTOCOL_VERSION,
    VERSION,
    ClaimRequest,
    ConnectReply,
    ConnectRequest,
    HeartbeatReply,
    Job,
    VerifyRequest,
)
from runners.worker.supervision import ForkServer, boot_seconds
from runners.worker.task_users import TaskUsers, require_passage
from runners.worker.tunnel import Tunnel
from runners.worker.uploader import Uploader
from runners.worker.workplace import Workplaces

logger = logging.getLogger(__name__)

DELIVERY_SECONDS = 10.0
OUTCOME_SECONDS = 5.0
LONGEST_PAUSE = 5.0
LONGEST_REASON = 500


class Agent:
    """The worker's own half; Celery's half brings it hints and takes its outcomes."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.client = Client(configuration)
        self.session = secrets.token_hex(16)
        self.forks = ForkServer(lambda pid: self.predecessor.note(pid))
        self.users = TaskUsers(configuration.task_users)
        self.tunnel: Tunnel | None = None
        # Set by the Celery half: end the worker with this status; listen to these queues.
        self.leave: Callable[[int], None] = lambda status: None
        self.listen: Callable[[tuple[str, ...]], None] = lambda queues: None
        self._runs: dict[tuple[int, int], Run] = {}
        self._lock = threading.Lock()
        self._is_draining = threading.Event()
        self._is_leaving = threading.Event()
        self.heart: Heart | None = None

    def connect(self) -> ConnectReply:
        """Open the journal, begin a session with Forge and get ready to run tasks.

        Raises WorkerError, whose text says what to do.
        """
        folder = self._find_folder()
        is_shared = bool(self.configuration.task_users)
        self.journal = self._open_journal(folder, is_shared=is_shared)
        self.predecessor = Predecessor(folder / "fork-server")
        self.workplaces = Workplaces(folder, os.environ, is_shared=is_shared)
        self._is_predecessor_gone = self.predecessor.await_end()
        self.workplaces.clear()
        if is_shared:
            require_passage(folder / "work")
        self.welcome = self._bounded(self.client.connect(self._introduction()))
        if not self.welcome.broker_url:
            tokens = self.configuration.tokens
            self.tunnel = Tunnel(self.configuration, tokens.current, folder, refused=self.ask_forge)
            self.tunnel.open()
        self._close_leftovers()
        self.forks.start()
        return self.welcome

    def _bounded(self, welcome: ConnectReply) -> ConnectReply:
        """No more tasks at once than there are users to run them."""
        count = self.users.count
        if not count or welcome.concurrency <= count:
            return welcome
        print(
            f"forge: This runner may run {welcome.concurrency} tasks at once, but "
            f"FORGE_RUNNER_TASK_USERS names {count}: it runs {count}.",
            file=sys.stderr,
            flush=True,
        )
        return replace(welcome, concurrency=count)

    def ask_forge(self) -> None:
        """Beat now: the broker cut a connection, or refuses one, and only Forge can say why."""
        if self.heart is not None:
            self.heart.poke()

    def _find_folder(self) -> Path:
        """The journal's folder; its name outlives tokens and addresses.

        Forge is asked who this is before anything is begun: the journal has to be held before
        `connect`, or a second worker on this host would displace the first.
        """
        found = self.client.verify(VerifyRequest(PROTOCOL_VERSION, VERSION))
        self.account = f"runner-{found.welcome.runner}"
        self.client.speak_as(self.account)
        return self.configuration.data / f"{self.account}-{found.identity[:12]}"

    def _open_journal(self, folder: Path, *, is_shared: bool) -> Journal:
        journal = Journal(folder, is_passable=is_shared)
        journal.take_over(self.configuration.data / _earlier_name(self.configuration.token))
        journal.open()
        return journal

    def _introduction(self) -> ConnectRequest:
        return ConnectRequest(
            protocol=PROTOCOL_VERSION,
            version=VERSION,
            session=self.session,
            instance=self.journal.instance,
            host_name=socket.gethostname()[:255],
            system=system(),
        )

    def _close_leftovers(self) -> None:
        """Tasks of an earlier worker that it could not report: their processes died with it."""
        for entry in self.journal:
            if entry.result is None:
                close_leftover(entry, is_gone=self._is_predecessor_gone)

    def begin(self) -> None:
        """Start heartbeat and uploads."""
        self.uploader = Uploader(
            self.client, self.journal, self.session, refused=self._drop, revoked=self._revoked
        )
        self.heart = Heart(
            self.client,
            self.journal,
            self.session,
            interval=self.welcome.heartbeat_seconds,
            obey=self._obey,
            revoked=self._revoked,
            displaced=self._displaced,
            back=self.tunnel.wake if self.tunnel is not None else lambda: None,
        )
        self.uploader.start()
        self.heart.start()

    def drain(self) -> None:
        """Take nothing new from now on, and tell Forge so."""
        self._is_draining.set()
        if self.heart is not None:
            self.heart.is_draining = True
            self.heart.poke()

    def end_all(self, reason: str, *, force: bool = False) -> None:
        """Stop what runs, and wait no longer for claims that nobody answers."""
        self._is_leaving.set()
        self.stop_all(reason, force=force)

    def close(self) -> None:
        """End what runs, hand over what can be handed over; the rest stays in the journal."""
        self._is_leaving.set()
        self.stop_all("The runner's worker was shut down.", force=True)
        self.forks.close()
        self._await_outcomes()
        self.uploader.close(DELIVERY_SECONDS)
        if self.heart is not None:
            self.heart.close()
        if self.tunnel is not None:
            self.tunnel.close()
        self.workplaces.close()
        self.journal.close()

    def _await_outcomes(self) -> None:
        """Celery's threads note the last outcomes a moment after the processes are gone."""
        deadline = time.monotonic() + OUTCOME_SECONDS
        while time.monotonic() < deadline and any(entry.result is None for entry in self.journal):
            time.sleep(0.02)

    # --- one task ---

    def run(self, task: int, attempt: int) -> dict[str, Any]:
        """Claim and run one attempt; the outcome goes through the result backend.

        Raises Ignore, which stores nothing, when there is nothing to run here.
        """
        reached("hint popped", task=task, attempt=attempt)
        if self._is_draining.is_set():
            raise Ignore("the worker takes nothing new")
        entry = self.journal.create(task, attempt)
        if entry is None:
            raise Ignore("this attempt is here already")
        try:
            entry.open(nonce=secrets.token_hex(16))
        except OSError as error:
            # Nothing was claimed: the task stays queued, and its hint is put out again.
            self.journal.forget(entry)
            logger.error("Task %d is not taken, the journal cannot be written: %s", task, error)
            raise Ignore("the journal cannot be written") from error
        job, lease = self._claim(entry)
        entry.log.limit(job.log_head_bytes, job.log_tail_bytes)
        reached("claim answered", task=task, attempt=attempt)
        user = self.users.take()
        workplace = self.workplaces.of(task, attempt, user, has_secrets=bool(job.files))
        run = Run(job, entry, workplace, lease, wrote=self.uploader.news)
        with self._lock:
            self._runs[task, attempt] = run
        try:
            return asdict(self._execute(run))
        finally:
            with self._lock:
                self._runs.pop((task, attempt), None)
            self.users.give_back(user)

    def _execute(self, run: Run) -> Outcome:
        if self._is_leaving.is_set():
            run.stop("The runner's worker was shut down before the task started.")
        return run.execute(self.forks, self._task_settings(run.job), self.uploader.urgent)

    def _claim(self, entry: Entry) -> tuple[Job, Lease]:
        """Ask until there is an answer: a lost answer may have given us the task.

        One that took long is asked for again: Forge may have given up this attempt meanwhile.
        """
        request = ClaimRequest(entry.task, entry.attempt, entry.nonce, keeps_leases=True)
        pause = 0.1
        while not self._is_leaving.is_set():
            sent = boot_seconds()
            try:
                job = self.client.claim(request)
                lease = Lease(sent=sent, seconds=job.lease_seconds, is_fenced=job.is_fenced)
                if boot_seconds() < lease.until:
                    return job, lease
            except RefusedError as error:
                self.journal.forget(entry)
                raise Ignore(error.message) from error
            except RevokedError as error:
                self._revoked(error)
                raise Ignore(error.message) from error
            except UnreachableError as error:
                self._is_leaving.wait(spread_pause(pause, error.retry_after))
                pause = min(pause * 2, LONGEST_PAUSE)
        raise Ignore("the worker is shutting down")

    def _task_settings(self, job: Job) -> dict[str, str]:
        """What a task's process finds in its environment (DESIGN section 4)."""
        return {
            "FORGE_TASK_ID": str(job.task),
            "FORGE_ATTEMPT": str(job.attempt),
            "FORGE_PROJECT": job.project,
            "FORGE_TEMPLATE": job.template,
            "FORGE_RUNNER": self.welcome.name,
            "FORGE_URL": self.configuration.url,
        }

    def deliver(self, task: int, attempt: int, outcome: Outcome) -> None:
        """Note how an attempt ended and send it; called by the result backend."""
        entry = self.journal.get(task, attempt)
        if entry is not None:
            cut = outcome.is_cut_short
            entry.end(outcome.outcome, outcome.exit_code, outcome.reason, is_cut_short=cut)
            reached("result journaled", task=task, attempt=attempt)
            self.uploader.urgent()

    # --- orders ---

    def stop(self, task: int, attempt: int, reason: str, *, force: bool = False) -> bool:
        """Stop one attempt, by its own steps or by force; False if it is not running here."""
        run = self._run_of(task, attempt)
        if run is None:
            return False
        run.stop(reason, force=force)
        return True

    def _run_of(self, task: int, attempt: int) -> Run | None:
        with self._lock:
            return self._runs.get((task, attempt))

    def stop_all(self, reason: str, *, force: bool = False) -> None:
        for run in self.runs():
            run.stop(reason, force=force)

    def runs(self) -> list[Run]:
        """What runs now, the oldest first."""
        with self._lock:
            return list(self._runs.values())

    def _obey(self, reply: HeartbeatReply, sent: float) -> None:
        for reference in reply.renewed:
            run = self._run_of(reference.task, reference.attempt)
            if run is not None:
                run.renew(sent=sent, seconds=reply.lease_seconds)
        for order in reply.stop:
            self.stop(order.task, order.attempt, order.reason, force=order.is_forced)
        for reference in reply.drop:
            entry = self.journal.get(reference.task, reference.attempt)
            # What became of a result is in the answer to the report that it is in, which may be
            # on its way at this moment.
            if entry is not None and entry.result is None:
                self._drop(entry)
        self.listen(reply.queues)

    def _drop(self, entry: Entry) -> None:
        """Forge no longer takes this attempt: end its processes and forget it."""
        run = self._run_of(entry.task, entry.attempt)
        if run is not None:
            # Where another attempt may have begun, nothing is left to be cleaned up in peace.
            run.stop("The task is no longer this runner's.", force=run.job.is_fenced)
        elif entry.result is not None:
            logger.warning(
                "Attempt %d of task #%d was given up by Forge before; what came of it since is "
                "not kept.",
                entry.attempt,
                entry.task,
            )
            self.journal.forget(entry)

    def _revoked(self, error: RevokedError) -> None:
        url = self.configuration.url
        removed = f"This runner was removed from Forge at {url}; its tasks were ended."
        # What does not say why comes from a Forge that has forgotten the runner altogether.
        is_removed = error.code in ("removed", "unauthorized")
        self._leave_for(
            removed if is_removed else f"{error.message} The runner's tasks were ended.",
            "The runner was removed from Forge." if is_removed else error.message,
        )

    def _displaced(self, message: str) -> None:
        self._leave_for(message, f"The runner's worker was ended: {message}")

    def _leave_for(self, sentence: str, reason: str) -> None:
        """End with `sentence` for the operator; each task that runs gets `reason`."""
        if self._is_leaving.is_set():
            return
        self._is_leaving.set()
        self.stop_all(reason[:LONGEST_REASON], force=True)
        print(f"forge: {printable(sentence, LONGEST_LINE)}", file=sys.stderr, flush=True)
        self.leave(2)


def _earlier_name(token: str) -> str:
    """What the journal's folder was called when it was named after the token."""
    return "runner-" + hashlib.sha256(token.encode()).hexdigest()[:16]
