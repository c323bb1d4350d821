"""Everything that one worker process holds, and what happens to it."""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from celery.exceptions import Ignore

from runners.worker.broker_watch import BrokerWatch
from runners.worker.claiming import Claims, LeavingError
from runners.worker.client import Client
from runners.worker.configuration import Configuration
from runners.worker.contact import Contact
from runners.worker.entry import Entry
from runners.worker.errors import RefusedError, RevokedError, say
from runners.worker.execution import Outcome, Run
from runners.worker.failpoints import reached
from runners.worker.host_watch import FOLDERS, JOURNAL, STARTS, HostWatch
from runners.worker.identity import ask_identity, introduction
from runners.worker.journal import earlier_name, open_journal
from runners.worker.lease import Lease
from runners.worker.leftovers import Leftovers
from runners.worker.patience import Known
from runners.worker.predecessor import Predecessor
from runners.worker.protocol import ConnectReply, HeartbeatReply, Job
from runners.worker.runs import Runs
from runners.worker.supervision import ForkServer, SupervisionError, TooLateError
from runners.worker.task_environment import settings_of
from runners.worker.task_users import TaskUsers, require_passage
from runners.worker.trial import Trial
from runners.worker.tunnel import Tunnel
from runners.worker.workplace import Workplaces

logger = logging.getLogger(__name__)

# Celery's threads note the last outcomes a moment after the processes are gone.
OUTCOME_SECONDS = 5.0
# So many times what it runs at once may be on a runner: running, or ended and not yet reported.
OVERHANG = 2
# How soon a slot that waits for room notices that the worker is to end.
ROOM_SECONDS = 0.5
LONGEST_REASON = 500


class Agent:
    """The worker's own half; Celery's half brings it hints and takes its outcomes."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.client = Client(configuration)
        self.session = secrets.token_hex(16)
        self.forks = ForkServer(lambda: self.predecessor.note(), adopts_orphans=True)
        self.users = TaskUsers(configuration.task_users)
        self.tunnel: Tunnel | None = None
        self.broker = BrokerWatch()
        # Set by the Celery half: end the worker with this status; end it after its tasks, for this
        # reason; listen to these queues; wait for no answer of the broker's any longer; run
        # what waits for a thread.
        self.leave: Callable[[int], None] = lambda status: None
        self.shut_down: Callable[[str], None] = lambda reason: None
        self.listen: Callable[[tuple[str, ...]], None] = lambda queues: None
        self.cut: Callable[[], None] = lambda: None
        self.revive: Callable[[], None] = lambda: None
        self.runs = Runs()
        # Attempts whose end is in the journal before Celery tells of it.
        self._noted = set[tuple[int, int]]()
        self._queues: tuple[str, ...] = ()
        self._choosing = threading.Lock()
        self._is_draining = threading.Event()
        self._is_leaving = threading.Event()
        self.claims = Claims(
            self.client,
            session=self.session,
            is_draining=self._is_draining,
            is_leaving=self._is_leaving,
        )
        self.known = Known(configuration.data, configuration.url)
        self._is_open = self._is_taken = self._has_taken_over = self._has_begun = False
        # What came first: that tasks may come, or what ends this worker.
        self._turning = threading.Lock()
        self._parting: tuple[str, str] | None = None

    def connect(self) -> ConnectReply:
        """Open the journal, begin a session with Forge, and open the tunnel if one is needed.

        May be called again. Raises WorkerError, whose text says what to do.
        """
        if not self._is_open:
            self.account, name = ask_identity(self.client)
            self._open(self.configuration.data / name)
        told = introduction(self.session, self.journal.instance, slots=self.users.count)
        self.welcome = self.client.connect(told)
        self._queues, self._parting = self.welcome.queues, None
        if not self._is_taken:
            self._is_taken = True
            self.workplaces.clear_others()
        if self.welcome.broker_url:
            self.abandon()
        elif self.tunnel is None:
            token, folder = self.configuration.tokens.current, self.journal.folder
            self.tunnel = Tunnel(self.configuration, token, folder, refused=self.ask_forge)
            self.tunnel.open()
        return self.welcome

    def abandon(self) -> None:
        """Leave no tunnel behind, and nobody waiting for a broker that is silent. Thread-safe."""
        tunnel, self.tunnel = self.tunnel, None
        if tunnel is not None:
            tunnel.close()

    def _open(self, folder: Path) -> None:
        """Hold the journal's folder from now on, and clear what lies beside it."""
        is_shared = bool(self.configuration.task_users)
        earlier = self.configuration.data / earlier_name(self.configuration.token)
        self.journal = open_journal(folder, earlier, is_passable=is_shared)
        self.contact = self._make_contact()
        self.predecessor = Predecessor(folder / "fork-servers")
        self.workplaces = Workplaces(
            folder, os.environ, is_shared=is_shared, instance=self.journal.instance
        )
        trial = Trial(self.workplaces, self.forks, self.users, revive=lambda: self.revive())
        self.watch = HostWatch(trial.probes(self.journal), changed=self._adapt)
        self.leftovers = Leftovers(self.journal, self.predecessor)
        self.leftovers.end(self.workplaces)
        self.workplaces.clear()
        if is_shared:
            require_passage(folder / "work")
        self._is_open = True

    def get_ready(self) -> ConnectReply:
        """The broker answers too: be able to run tasks."""
        bound = self.users.bound(self.welcome.concurrency)
        self.welcome = replace(self.welcome, concurrency=bound)
        self.runs.slots = self.welcome.concurrency
        self._take_over()
        try:
            self.forks.start()
        except SupervisionError as error:  # such as on a full disk
            self.watch.note(STARTS, error)
        return self.welcome

    def ask_forge(self) -> None:
        """Beat now: only Forge can say why the broker cuts us off, or it is to know something."""
        self.contact.poke()

    def _make_contact(self) -> Contact:
        return Contact(
            self.client,
            self.journal,
            self.session,
            refused=self._drop,
            revoked=self._revoked,
            displaced=self._displaced,
            obey=self._obey,
            back=lambda: self.tunnel.wake() if self.tunnel else None,
            trouble=lambda: self.watch.trouble or self.broker.trouble,
        )

    def keep_in_touch(self, *, is_listening: bool = True) -> None:
        """Hand over what the journal holds, and beat; this worker is connected. Again: go on so."""
        self._take_over()
        if not self.watch.is_alive():
            self.watch.probe()
            self.watch.start()
        self.contact.keep(self.welcome.heartbeat_seconds, is_listening=is_listening)
        # Not before: what a killed worker left may be large, and leases end meanwhile.
        self.workplaces.clearance.start()

    def _take_over(self) -> None:
        """Forge takes this worker for the runner's: note how what others left has ended."""
        if not self._has_taken_over:
            self._has_taken_over = True
            # It works here: a later start waits for it, also one with a token of the next rotation.
            tokens, remember = self.configuration.tokens, self.known.note
            tokens.accepted = partial(remember, self.journal.folder)
            self.journal.restored = lambda: tokens.accepted(tokens.current())
            self.journal.restored()
            self.leftovers.close()

    def begin(self) -> None:
        """Tasks are about to come. What was to end this worker, while it waited, does so now."""
        if self.tunnel is not None:
            self.tunnel.is_logging = True
        with self._turning:
            self._has_begun, parting = True, self._parting
        self.keep_in_touch(is_listening=False)
        if parting is not None:
            self._leave_for(*parting)

    def give_up(self) -> None:
        """The start came to nothing: hand over what can be, and leave nothing behind."""
        if self._has_taken_over:
            self.contact.close(is_short=True)
        self.abandon()

    def drain(self) -> None:
        """Take nothing new from now on, and tell Forge so."""
        self._is_draining.set()
        self.contact.drain()

    def end_all(self, reason: str, *, force: bool = False) -> None:
        """Stop what runs, and wait no longer for claims that nobody answers."""
        self._is_leaving.set()
        self.runs.stop_all(reason, force=force)

    def close(self) -> None:
        """End what runs, hand over what can be handed over; the rest stays in the journal."""
        is_calm = not self._is_leaving.is_set()
        self._is_leaving.set()
        self.runs.stop_all("The runner's worker was shut down.", force=True)
        self.forks.close()
        self.watch.close()
        self.journal.await_results(OUTCOME_SECONDS)
        self.workplaces.clearance.close(is_calm=is_calm)
        self.contact.close()
        self.abandon()
        self.workplaces.close()
        self.journal.close(warns=self._is_draining.is_set())

    # --- one task ---

    def run(self, task: int, attempt: int) -> dict[str, Any]:
        """Claim and run one attempt; the outcome goes through the result backend.

        Raises Ignore, which stores nothing, when there is nothing to run here.
        """
        reached("hint popped", task=task, attempt=attempt)
        if not self._has_room():
            self.claims.hand_back(task, attempt)
            raise Ignore("the worker takes nothing new")
        entry = self.journal.create(task, attempt)
        if entry is None:
            raise Ignore("this attempt is here already")
        what = JOURNAL
        try:
            entry.open(nonce=secrets.token_hex(16), url=self.configuration.url)
            what = FOLDERS
            self.workplaces.probe()
        except OSError as error:
            self.journal.forget(entry)
            logger.info("Task %d is not taken.", task)
            self.watch.note(what, error)
            self.claims.hand_back(task, attempt)
            raise Ignore("this host cannot carry it out") from error
        with self.runs.expecting(task, attempt):
            is_ours = False
            while True:
                with suppress(TooLateError):  # nothing ran: the claim is repeated
                    return asdict(self._take(entry, is_ours=is_ours))
                is_ours = True

    def _take(self, entry: Entry, *, is_ours: bool) -> Outcome:
        """Claim it, and run what the answer says. TooLateError: it had grown old by then."""
        task, attempt = entry.task, entry.attempt
        job, lease = self._claim(entry, is_ours=is_ours)
        entry.log.limit(job.log_head_bytes, job.log_tail_bytes)
        reached("claim answered", task=task, attempt=attempt)
        with self.users.lent() as user:
            workplace = self.workplaces.of(task, attempt, user, has_secrets=bool(job.files))
            news, hindered = self.contact.uploader.news, partial(self.watch.note, STARTS)
            run = Run(job, entry, workplace, lease, wrote=news, hindered=hindered)
            self.runs.add(run)
            try:
                outcome = self._execute(run)
                # First: the worker may be killed while it deletes a large folder.
                self._note_end(entry, outcome)
                self._noted.add((task, attempt))
                return outcome
            finally:
                try:
                    workplace.remove()
                finally:
                    self.runs.remove(run)

    def _has_room(self) -> bool:
        """True once Forge has taken enough of what has ended here to let this runner have more.

        It counts a task as held until its result has arrived, and would refuse a claim too many:
        the hint would go back, and around, while this slot is free. False if nothing new is taken.
        """
        most = OVERHANG * self.runs.slots
        while not self._is_draining.is_set() and not self._is_leaving.is_set():
            if self.watch.trouble or self.contact.uploader.trouble:
                break
            if self.journal.await_room(most, ROOM_SECONDS):
                return True
        return False

    def _execute(self, run: Run) -> Outcome:
        if self._is_leaving.is_set():
            run.stop("The runner's worker was shut down before the task started.")
        settings = settings_of(run.job, runner=self.welcome.name, url=self.configuration.url)
        return run.execute(self.forks, settings, self.contact.uploader.urgent)

    def _claim(self, entry: Entry, *, is_ours: bool) -> tuple[Job, Lease]:
        """Raises Ignore if there is nothing to run, or it will not be known any more."""
        try:
            return self.claims.claim(entry, may_be_ours=is_ours)
        except RefusedError as error:
            self.journal.forget(entry)
            raise Ignore(error.message) from error
        except RevokedError as error:
            self._revoked(error)
            raise Ignore(error.message) from error
        except LeavingError as error:
            raise Ignore("the worker is shutting down") from error

    def deliver(self, task: int, attempt: int, outcome: Outcome) -> None:
        """Note how an attempt ended, unless that is done; called by the result backend."""
        if (task, attempt) in self._noted:
            self._noted.remove((task, attempt))
        elif entry := self.journal.get(task, attempt):
            self._note_end(entry, outcome)

    def _note_end(self, entry: Entry, outcome: Outcome) -> None:
        """In the journal, from which it is sent."""
        cut = outcome.is_cut_short
        entry.end(outcome.outcome, outcome.exit_code, outcome.reason, is_cut_short=cut)
        reached("result journaled", task=entry.task, attempt=entry.attempt)
        self.contact.uploader.urgent()

    # --- orders ---

    def _obey(self, reply: HeartbeatReply, sent: float) -> None:
        self.runs.renew(reply.renewed, sent=sent, seconds=reply.lease_seconds)
        for order in reply.stop:
            self.runs.stop(order.task, order.attempt, order.reason, force=order.is_forced)
        for reference in reply.drop:
            entry = self.journal.get(reference.task, reference.attempt)
            # What became of a result is in the answer to the report that it is in, which may be
            # on its way at this moment.
            if entry is not None and entry.result is None:
                self._drop(entry)
        self._queues = reply.queues
        self.choose_queues()
        if reply.concurrency and self._has_begun:
            self.runs.resize(min(reply.concurrency, self.users.count or reply.concurrency))
        if reply.drain:
            self.shut_down(f"Forge tells this worker to end: {reply.drain}")

    def choose_queues(self) -> None:
        """Listen to what Forge says; to no tasks while what comes of them cannot be kept or told.

        Celery needs a queue: the runner's own name stands in, as when Forge has none for it.
        """
        with self._choosing:
            is_barred = bool(self.watch.trouble or self.contact.uploader.trouble)
            self.listen((self.account,) if is_barred else self._queues)

    def _adapt(self) -> None:
        """This host can no longer carry out tasks, or can again: obey that, and tell Forge."""
        self.choose_queues()
        self.ask_forge()

    def _drop(self, entry: Entry) -> None:
        """Forge no longer takes this attempt: end its processes and forget it."""
        run = self.runs.get(entry.task, entry.attempt)
        if run is not None and entry.result is None:
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
        self._leave_for(*error.parting(self.configuration.url, has_tasks=any(self.runs)))

    def _displaced(self, message: str) -> None:
        self._leave_for(message, f"The runner's worker was ended: {message}")

    def _leave_for(self, sentence: str, reason: str) -> None:
        """End with `sentence` for the operator; each task that runs gets `reason`.

        A worker that still waits for the broker asks Forge again, and hears it then.
        """
        if self._is_leaving.is_set():
            return
        self.runs.stop_all(reason[:LONGEST_REASON], force=True)
        with self._turning:
            if not self._has_begun:
                self._parting = sentence, reason
                return
            self._is_leaving.set()
        say(sentence)
        self.leave(2)
