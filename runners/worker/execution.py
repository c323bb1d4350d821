"""One attempt, from its job to its end: script, secrets, process, log, time limit, stop."""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from runners.worker.endings import sentence_of
from runners.worker.entry import Entry
from runners.worker.failpoints import reached
from runners.worker.interpreters import INTERPRETERS, places_of
from runners.worker.lease import Lease
from runners.worker.masking import Masker, UnmaskableError, mask_text
from runners.worker.protocol import MAXIMUM_REASON, Job
from runners.worker.stop_report import StopReport
from runners.worker.supervision import (
    Control,
    Ending,
    ForkServer,
    HostError,
    StepDone,
    StopStep,
    SupervisedProcess,
    SupervisionError,
    SupervisorLostError,
    TooLateError,
    capacity_of,
    is_readable,
    read_some,
)
from runners.worker.task_environment import environment_for
from runners.worker.trial import start_thread
from runners.worker.workplace import Workplace

logger = logging.getLogger(__name__)

READ_BYTES = 64 * 1024
# How long a program that has stopped its supervisor can keep an order from being obeyed.
NUDGE_SECONDS = 2.0
_OTHERS_WORDS = (
    "Something outside of the task's processes went on writing to its output; that is not kept."
)
FORCED = (StopStep(signal.SIGKILL, 0.0),)


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended: succeeded, failed or stopped; the reason is for a person.

    is_cut_short: neither by itself nor by an order, and all of its processes are gone.
    """

    outcome: str
    exit_code: int | None
    reason: str
    is_cut_short: bool = False


class UnkeptError(Exception):
    """What the program writes cannot be kept; the text is half a sentence."""


class Run:
    """An attempt in progress. `execute` blocks; `stop` may come from any thread, at any time."""

    def __init__(
        self,
        job: Job,
        entry: Entry,
        workplace: Workplace,
        lease: Lease,
        *,
        wrote: Callable[[], None],
        hindered: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        """`hindered` is told what keeps this host from starting anything, not this job alone."""
        self.job = job
        self.begun = time.monotonic()
        self._lease = lease
        self._steps = stop_steps(job)
        self.entry = entry
        self.workplace = workplace
        self._secrets = (*job.secrets.values(), *(file.content for file in job.files))
        self._wrote, self._hindered = wrote, hindered
        # Not held while a program is started: that may hang, and the heartbeat asks for it.
        self._lock = threading.Lock()
        self._control = Control()
        self._stop_reason: str | None = None
        self._is_timed_out = False
        self._is_forced = False
        self._report = StopReport()

    def stop(self, reason: str, *, force: bool = False) -> None:
        """End the process tree by the job's steps, or by force; or keep it from starting.

        The first reason stays, unless a later stop is by force and this one was not.
        """
        with self._lock:
            if self._stop_reason is None or (force and not self._is_forced):
                self._stop_reason = reason
            self._is_forced = force = force or self._is_forced
            self._control.stop(FORCED if force else self._steps)

    def renew(self, *, sent: float, seconds: float) -> None:
        """Forge has answered a heartbeat that was sent then, and renewed the lease."""
        with self._lock:
            until = self._lease.renew(sent=sent, seconds=seconds)
            if self._lease.is_fenced:
                self._control.extend(until)

    def execute(
        self, server: ForkServer, settings: Mapping[str, str], started: Callable[[], None]
    ) -> Outcome:
        """Run the job to its end and return how it was, without a secret in the reason.

        Raises TooLateError when nothing was run, because the permission to had run out: this host,
        or the worker, stood still meanwhile.
        """
        try:
            outcome = self._execute(server, settings, started)
        except TooLateError:
            raise
        except UnkeptError as error:
            logger.error("Task %d is ended: %s.", self.job.task, error)
            outcome = Outcome("failed", None, f"It was ended: {error}.")
        except Exception as error:
            # Celery would log the error as it is, and errors about texts hold the text.
            logger.error("task %d: %s", self.job.task, self._masked(traceback.format_exc()))
            detail = f"The worker failed while it ran the task: {type(error).__name__}: {error}"
            outcome = Outcome("failed", None, detail)
        finally:
            # Before anybody hears of the end; the rest is removed by who made the place.
            self.workplace.remove_secrets()
        return replace(outcome, reason=self._masked(outcome.reason)[:MAXIMUM_REASON])

    def _masked(self, text: str) -> str:
        try:
            return mask_text(text, self._secrets)
        except UnmaskableError:
            return "The reason may hold a secret that cannot be masked; it is left out."

    def _execute(
        self, server: ForkServer, settings: Mapping[str, str], started: Callable[[], None]
    ) -> Outcome:
        try:
            masker = Masker(self._secrets)
            process = self._spawn(server, settings)
        except UnmaskableError as error:
            return Outcome("failed", None, f"It was not started: {error}.")
        except SupervisorLostError as error:
            return self._lost_at_start(error, masker)
        except TooLateError:
            self.entry.take_back_start()
            raise
        except (SupervisionError, OSError) as error:
            return self._not_started(error)
        if process is None:
            return Outcome("stopped", None, self._stop_reason or "Stopped.")
        if process.has_begun:
            self.entry.started = process.begun_at
            started()
            self._reached("process started")
        try:
            ending = self._follow(process, masker, server)
            self._reached("process exited")
        except SupervisorLostError as error:
            return self._lost(error)
        except BaseException:
            # Such as a full disk: nobody would read the program's output any more.
            self.entry.doubt("The worker failed: what the program wrote last may be missing.")
            process.stop(FORCED)
            with suppress(SupervisionError):
                process.wait()
            raise
        return self._outcome(ending)

    def _not_started(self, error: SupervisionError | OSError) -> Outcome:
        # What is there already may be another task's doing: it keeps no other from starting.
        if not isinstance(error, HostError | OSError) or isinstance(error, FileExistsError):
            return Outcome("failed", None, f"The program could not be started: {error}")
        self._hindered(error)
        why = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else error
        reason = f"Nothing was started, for a reason of the runner's host: {why}"
        return Outcome("failed", None, reason)

    def _lost_at_start(self, error: SupervisorLostError, masker: Masker) -> Outcome:
        """Nobody can say whether the program ran; what it wrote is kept."""
        self._write(masker.feed(error.output) + masker.flush())
        return self._lost(error, " The program may have run.")

    def _lost(self, error: SupervisorLostError, remark: str = "") -> Outcome:
        """Cut short, if it is proven that nothing is left that could write or do more."""
        reason = f"The task's supervisor was lost: {error}.{remark}"
        if not error.is_whole:
            self.entry.doubt("Its supervisor was lost: what the program wrote may be missing.")
            return Outcome("failed", None, reason)
        reason += " What there was of it was ended."
        return Outcome("failed", None, reason, is_cut_short=not self._is_timed_out)

    def _spawn(self, server: ForkServer, settings: Mapping[str, str]) -> SupervisedProcess | None:
        """Start the process, unless it was stopped before."""
        user = self.workplace.user
        arguments = self._write_script()
        paths = self.workplace.write_secrets(self.job.files)
        if self._stop_reason is not None:
            return None
        self.entry.note_start(user.uid if user else None)
        limit = threading.Timer(self.job.timeout_seconds, self._time_out)
        limit.daemon = True
        start_thread(limit)
        try:
            return server.spawn(
                arguments,
                environment=environment_for(self.job, user, {**paths, **settings}),
                directory=self.workplace.folder,
                private=self.workplace.secrets if paths else None,
                user=user.as_json() if user else None,
                places=places_of(arguments[0]),
                terms=self._lease.terms(self._steps[0].signal if self._steps else signal.SIGKILL),
                on_step=self._tell_step,
                control=self._control,
            )
        finally:
            limit.cancel()

    def _write_script(self) -> list[str]:
        """Put the script into a file that only this user can read; returns the command."""
        if self.job.app not in INTERPRETERS:
            raise SupervisionError(
                f"this worker does not know the app {self.job.app!r}; update the runner."
            )
        program, name = INTERPRETERS[self.job.app]
        self.workplace.make()
        # Text from a browser has CRLF line ends, which Bash would take as part of words.
        path = self.workplace.write_script(name, self.job.script.replace("\r\n", "\n"))
        return [program, str(path)]

    def _follow(self, process: SupervisedProcess, masker: Masker, server: ForkServer) -> Ending:
        """Journal the output, masked, until the tree is gone, watching the time limit."""
        ending: Ending | SupervisorLostError
        try:
            # The program may take back what it has written, and nobody is to wait for it then.
            os.set_blocking(process.output, False)
            try:
                ending = self._watch(process, masker, server)
            except SupervisorLostError as error:
                ending = error
            # All that could write is gone, so what is in the pipe now is the rest.
            is_at_end = self._read_rest(process, masker)
            self._write(masker.flush())
        finally:
            os.close(process.output)
        if isinstance(ending, SupervisorLostError):
            ending.is_whole = is_at_end
            raise ending
        self._say(*self._report.end(ending))
        return ending

    def _watch(self, process: SupervisedProcess, masker: Masker, server: ForkServer) -> Ending:
        """Until the end. The output may close before it, and the program go on without one."""
        nudged = time.monotonic()
        deadline = time.monotonic() + self.job.timeout_seconds
        poll = select.poll()
        poll.register(process.news, select.POLLIN)
        poll.register(process.output, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll(self._milliseconds_to(deadline))}
            if time.monotonic() - nudged >= NUDGE_SECONDS:
                # The program may have stopped those that watch it.
                server.nudge()
                nudged = time.monotonic()
            if not self._is_timed_out and time.monotonic() >= deadline:
                self._time_out()
            is_ready = process.output in ready
            data = read_some(process.output, READ_BYTES) if is_ready else None
            # After the reading: a step of a stop is told before what came because of it.
            try:
                ending = process.wait(0)
            finally:
                # Also where the supervisor was found dead: it is read, and nobody else has it.
                if data is not None:
                    self._take(data, masker)
            if ending is not None:
                return ending
            if data == b"":
                poll.unregister(process.output)

    def _read_rest(self, process: SupervisedProcess, masker: Masker) -> bool:
        """Take what is in the pipe; False if somebody holds its other end nevertheless.

        That one may write without end, and is none of the task's processes, which are gone: what
        they wrote is in what the pipe can hold.
        """
        left = capacity_of(process.output)
        while is_readable(process.output):
            if left < 0:
                self.entry.doubt(_OTHERS_WORDS)
                break
            data = read_some(process.output, READ_BYTES)
            if data == b"":
                return True
            left -= len(data or bytes(READ_BYTES))
            self._take(data or b"", masker)
        return False

    def _take(self, data: bytes, masker: Masker) -> None:
        self._write(masker.feed(data) if data else b"")

    def _write(self, data: bytes) -> None:
        if data:
            try:
                self.entry.append(data)
            except OSError as error:
                why = error.strerror or type(error).__name__
                raise UnkeptError(
                    f"what it wrote cannot be kept on the runner's disk: {why}"
                ) from error
            self._wrote()
            self._reached("mid-log")

    def _reached(self, place: str) -> None:
        reached(place, task=self.job.task, attempt=self.job.attempt)

    def _tell_step(self, step: StepDone) -> None:
        """Put a step of a stop into the log; called in the thread that follows the program."""
        if step.cause == "leftovers":
            return
        reason = self._stop_reason or (
            self._limit_reason() if self._is_timed_out else self._lease_reason()
        )
        self._say(*self._report.step(step, self._masked(reason)))

    def _limit_reason(self) -> str:
        limit = f"its limit of {self.job.timeout_seconds:g} s"
        if self.entry.started is None:
            return f"Its start did not come to an end within {limit}."
        return f"It ran longer than {limit}."

    def _lease_reason(self) -> str:
        return (
            f"Forge did not renew the task's lease of {self._lease.seconds:g} s in time, and the "
            "task may be run again elsewhere after that: its processes were ended."
        )

    def _say(self, *sentences: str) -> None:
        """Lines of Forge's own in the log, each beginning with `forge: `."""
        for sentence in sentences:
            # On a full disk the program's own output ends the task; a remark must not.
            with suppress(OSError):
                self.entry.append_line(f"forge: {sentence}")
                self._wrote()

    def _milliseconds_to(self, deadline: float) -> int:
        """Until the time limit, or until something is to be looked after again."""
        left = NUDGE_SECONDS if self._is_timed_out else deadline - time.monotonic()
        return max(0, int(min(left, NUDGE_SECONDS) * 1000) + 1)

    def _time_out(self) -> None:
        """Any time between the start and the end; also of a start that hangs."""
        self._is_timed_out = True
        with self._lock:
            if self._stop_reason is None:
                self._control.stop(self._steps)

    def _outcome(self, ending: Ending) -> Outcome:
        code = ending.exit_code
        if self._stop_reason is not None:
            return Outcome("stopped", code, self._stop_reason)
        if self._is_timed_out:
            return Outcome("failed", code, self._limit_reason())
        if ending.lease_ended:
            return Outcome("failed", code, self._lease_reason(), is_cut_short=True)
        return Outcome("succeeded" if code == 0 else "failed", code, sentence_of(ending))


def stop_steps(job: Job) -> tuple[StopStep, ...]:
    """The job's own steps, before the KILL that follows every list."""
    found = ((signal.Signals[f"SIG{step.signal}"], step.grace_seconds) for step in job.stop_steps)
    return tuple(StopStep(number, grace) for number, grace in found)
