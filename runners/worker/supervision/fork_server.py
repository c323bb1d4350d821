"""The worker's handle on the fork server."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from runners.worker.supervision.control import Control, write_line
from runners.worker.supervision.errors import (
    HostError,
    RequestNotTakenError,
    SupervisionError,
    SupervisorLostError,
    TooLateError,
)
from runners.worker.supervision.launch import Note, launch
from runners.worker.supervision.orphans import Orphans
from runners.worker.supervision.pipes import REST_SECONDS, Pipes, open_pipes, rest_of
from runners.worker.supervision.process import (
    ORPHANS_SECONDS,
    StepDone,
    StopStep,
    SupervisedProcess,
    Terms,
)
from runners.worker.supervision.request import request_of
from runners.worker.supervision.status import StatusReader

_ATTEMPTS = 4
# As in server/main.py, which cannot be imported without changing what a supervisor weighs.
PRIVATE_BYTES = 1024
_NUDGE_SECONDS = 1.0
_KILL = (StopStep(signal.SIGKILL, 0),)


class ForkServer:
    """Starts programs under supervision. All methods may be called from any thread.

    Do not fork the worker without exec while it is in use: the copy would hold the control pipes,
    and the worker's death would go unnoticed for as long as the copy lives.
    """

    def __init__(
        self, noted: Callable[[], Note | None] = lambda: None, *, adopts_orphans: bool = False
    ) -> None:
        """`noted` makes the note of a server that is about to start; OSError keeps it from that.

        With `adopts_orphans`, for a process that does nothing else, a task whose supervisor and
        server are both killed is ended too: its processes become children of this one.
        """
        self._noted = noted
        self._orphans = Orphans() if adopts_orphans else None
        self._servers_lost = 0
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None
        self._starting: set[Control] = set()
        self._running: set[SupervisedProcess] = set()
        self._is_closed = False

    def start(self) -> None:
        """Start the server now rather than with the first program; again does nothing."""
        with self._lock:
            self._ensure_server()

    def spawn(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        directory: Path,
        private: Path | None = None,
        user: Mapping[str, object] | None = None,
        places: Sequence[str] | None = None,
        terms: Terms | None = None,
        on_step: Callable[[StepDone], None] = lambda step: None,
        control: Control | None = None,
    ) -> SupervisedProcess:
        """Start a program and return once it has begun to run, or was ended before it could.

        `terms` bound when it may start and how long it may run; `on_step` is told each step of a
        stop, in this thread. `control`, a new one, takes orders also while this waits.

        `private` is a folder that is removed when the last process of the program is gone, also
        if this worker, or the supervisor, was killed by then. `user` (uid, gid, groups), for a
        worker that is root, is whom the program runs as.

        `places` are the paths at which the program argv[0] may lie, in order; without them a name
        without a slash is looked up in the PATH of `environment`. It is the child that looks, as
        the program's user. Raises SupervisionError with a sentence for the user: program not found,
        directory missing, arguments too large.
        TooLateError says that nothing ran, HostError that nothing would have, whatever it is.
        """
        request = request_of(argv, environment, directory, user=user, places=places, terms=terms)
        control = control or Control()
        with self._started_by(control):
            for _ in range(_ATTEMPTS):
                with contextlib.suppress(RequestNotTakenError):
                    return self._spawn_once(request, private, on_step, control)
        raise HostError(f"the fork server could not take the request for {argv[0]}")

    def nudge(self) -> None:
        """Have the server go on, if a task of the same user has stopped it with SIGSTOP.

        It does the same for its supervisors; without it, neither an order nor a lease would end
        a program that has stopped both. For a server that runs it is nothing.
        """
        with self._lock:
            if self._server is not None:
                self._server.send_signal(signal.SIGCONT)
            if self._orphans is not None and self._has_lost_server:
                self._orphans.nudge()

    def close(self) -> None:
        """End every task's tree and the server, and wait until all are gone."""
        with self._lock:
            self._is_closed = True
            running = list(self._running)
            starting = list(self._starting)
        self.nudge()
        for control in starting:
            control.stop(_KILL)
        for process in running:
            process.stop(_KILL)
        for process in running:
            _await_end(process)
        with self._lock:
            server, requests = self._server, self._requests
            self._server = self._requests = None
        if requests is not None:
            requests.close()
        if server is not None:
            server.send_signal(signal.SIGCONT)
            server.wait()

    def _spawn_once(
        self,
        request: dict[str, Any],
        private: Path | None,
        on_step: Callable[[StepDone], None],
        control: Control,
    ) -> SupervisedProcess:
        pipes = open_pipes()
        try:
            status = StatusReader(pipes.status)
            with self._greeting():
                try:
                    server = self._hand_over(pipes, private)
                finally:
                    pipes.close_far_ends()
                supervisor = self._greet(status)
            end_orphans = partial(self._end_orphans, supervisor, server)
            try:
                begun = self._order(pipes.control, status, request, control, on_step)
            except SupervisorLostError as error:
                if not status.is_tree_ended:
                    _repeat(end_orphans)
                error.output, error.is_whole = rest_of(pipes.output)
                raise
            except BaseException:
                self._release(supervisor)
                raise
        except BaseException:
            control.detach()
            pipes.close_near_ends()
            raise
        process = SupervisedProcess(
            begun["pid"],
            has_begun=begun["has_begun"],
            begun_at=begun["begun_at"],
            output=pipes.output,
            control=control,
            status=status,
            on_end=partial(self._forget, supervisor),
            end_orphans=end_orphans,
            on_step=on_step,
        )
        self._remember(process)
        return process

    @contextlib.contextmanager
    def _started_by(self, control: Control) -> Iterator[None]:
        """Until it runs, `close` has to end what may be about to."""
        with self._lock:
            self._starting.add(control)
        try:
            yield
        finally:
            with self._lock:
                self._starting.discard(control)

    @contextlib.contextmanager
    def _greeting(self) -> Iterator[None]:
        """Until a supervisor's pid is known here, a sweep for orphans may take it for one."""
        if self._orphans is None:
            yield
            return
        with self._lock:
            self._orphans.begin_greeting()
        try:
            yield
        finally:
            with self._lock:
                self._orphans.end_greeting()

    def _hand_over(self, pipes: Pipes, private: Path | None) -> subprocess.Popen[bytes]:
        """Give the far ends to the server, which forks a supervisor that holds them.

        With them goes, in a frame of fixed size, what to remove if that supervisor is killed.
        Returns the server.
        """
        folder = os.fsencode(private.absolute()) if private else b""
        if len(folder) > PRIVATE_BYTES:
            raise SupervisionError(f"the path {private} is too long")
        with self._lock:
            server, requests = self._ensure_server()
            try:
                socket.send_fds(requests, [folder.ljust(PRIVATE_BYTES, b"\0")], pipes.far_ends)
            except OSError as error:
                self._discard_server()
                raise RequestNotTakenError("the fork server has died") from error
        return server

    def _greet(self, status: StatusReader) -> int:
        """Wait until the new supervisor says hello; returns its pid.

        The request goes out only after that: before, nothing can have run, so that a death up to
        there may be answered by asking again, and later ones may not.
        """
        try:
            supervisor = int(self._next(status)["supervisor"])
        except EOFError as error:
            raise RequestNotTakenError("the fork server has died") from error
        with self._lock:
            if self._orphans is not None and not self._orphans.spare(supervisor):
                raise RequestNotTakenError("the supervisor was taken for what another one left")
        return supervisor

    def _order(
        self,
        descriptor: int,
        status: StatusReader,
        request: dict[str, Any],
        control: Control,
        on_step: Callable[[StepDone], None],
    ) -> dict[str, Any]:
        """Send the request to the new supervisor; return what it tells of the start.

        This may wait for ever, and holds no lock: what is ordered meanwhile goes through `control`.
        """
        try:
            with contextlib.suppress(BrokenPipeError):  # Why nobody reads is in the answer.
                write_line(descriptor, request)
            control.open(descriptor)
            while "step" in (answer := self._next(status)):
                on_step(StepDone(**answer["step"]))
        except EOFError as error:
            died = "the supervisor died while it started the program"
            raise SupervisorLostError(died) from error
        if "is_too_late" in answer:
            raise TooLateError(answer["error"])
        if "error" in answer:
            kind = HostError if answer.get("is_of_host") else SupervisionError
            raise kind(answer["error"])
        return answer

    def _next(self, status: StatusReader) -> dict[str, Any]:
        while (told := status.next(_NUDGE_SECONDS)) is None:
            self.nudge()
        return told

    def _ensure_server(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        if self._is_closed:
            raise SupervisionError("the fork server is closed")
        if self._server is not None and self._server.poll() is not None:
            self._discard_server()
        if self._server is None or self._requests is None:
            self._server, self._requests = self._launch()
        return self._server, self._requests

    def _launch(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        try:
            if self._orphans is not None:
                self._orphans.adopt()
            return launch(self._noted())
        except OSError as error:
            raise HostError(f"the fork server cannot start: {error}") from error

    def _discard_server(self) -> None:
        """Forget a server that no longer answers. Its supervisors go on without it."""
        if self._requests is not None:
            self._requests.close()
        if self._server is not None:
            self._server.kill()
            self._server.wait()
        self._requests = self._server = None
        self._servers_lost += 1

    @property
    def _server_pid(self) -> int | None:
        return self._server.pid if self._server is not None else None

    @property
    def _has_lost_server(self) -> bool:
        """Whether supervisors may be children of this process."""
        is_dead = self._server is not None and self._server.poll() is not None
        return is_dead or self._servers_lost > 0

    def _end_orphans(self, supervisor: int, server: subprocess.Popen[bytes]) -> bool:
        """Look for what is left of a supervisor that died, and not by the hand of its server.

        True if nothing is: the end is proven. To be repeated until then; looks for a moment.
        """
        if self._orphans is None:
            return True
        # It has died too, or said what it left: only then what was below it is below here.
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(REST_SECONDS)
        with self._lock:
            self._orphans.forget(supervisor)
            if self._orphans.sweep(self._server_pid):
                return True
        time.sleep(ORPHANS_SECONDS)
        return False

    def _remember(self, process: SupervisedProcess) -> None:
        with self._lock:
            self._running.add(process)
            is_closed = self._is_closed
        if is_closed:
            process.stop(_KILL)
            os.close(process.output)
            _await_end(process)
            raise SupervisionError("the fork server is closed")

    def _forget(self, supervisor: int, process: SupervisedProcess) -> None:
        with self._lock:
            self._running.discard(process)
        self._release(supervisor)

    def _release(self, supervisor: int) -> None:
        """It has nothing more to do; if its server has died, it is to be collected here."""
        with self._lock:
            if self._orphans is not None:
                self._orphans.forget(supervisor)
                if self._has_lost_server:
                    self._orphans.reap(self._server_pid)


def _repeat(end_orphans: Callable[[], bool]) -> None:
    """As long as is waited for what the program had written."""
    deadline = time.monotonic() + REST_SECONDS
    while not end_orphans() and time.monotonic() < deadline:
        pass


def _await_end(process: SupervisedProcess) -> None:
    # An error means that its supervisor was killed; the fork server has ended the tree.
    with contextlib.suppress(SupervisionError):
        process.wait()
