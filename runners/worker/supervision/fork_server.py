"""The worker's handle on the fork server."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from runners.worker.supervision.errors import (
    RequestNotTakenError,
    SupervisionError,
    TooLateError,
)
from runners.worker.supervision.process import (
    StepDone,
    StopStep,
    SupervisedProcess,
    Terms,
    write_line,
)
from runners.worker.supervision.status import StatusReader

# The server imports its own folder as the package `server`, so that it never loads the rest of
# the worker: every byte it holds is copied into the page tables of every supervisor.
_SERVER_FOLDER = str(Path(__file__).resolve().parent)
_SERVER_CODE = (
    "import sys; sys.path.append(sys.argv[1]); from server.main import main; main(int(sys.argv[2]))"
)
_LEAN = ("-I", "-S", "-X", "utf8")
_ATTEMPTS = 4
# As in server/main.py, which cannot be imported without changing what a supervisor weighs.
PRIVATE_BYTES = 1024
_NUDGE_SECONDS = 1.0


class ForkServer:
    """Starts programs under supervision. All methods may be called from any thread.

    Do not fork the worker without exec while it is in use: the copy would hold the control pipes,
    and the worker's death would go unnoticed for as long as the copy lives.
    """

    def __init__(self, launched: Callable[[int], None] = lambda pid: None) -> None:
        """`launched` is called with the pid of each server process."""
        self._launched = launched
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None
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
        terms: Terms | None = None,
        on_step: Callable[[StepDone], None] = lambda step: None,
    ) -> SupervisedProcess:
        """Start a program and return once it has begun to run.

        `terms` bound when it may start and how long it may run; `on_step` is told each step of a
        stop.

        `private` is a folder that is removed when the last process of the program is gone, also
        if this worker, or the supervisor, was killed by then. `user` (uid, gid, groups), for a
        worker that is root, is whom the program runs as.

        A name without a slash is looked up in the PATH of `environment`. Raises SupervisionError
        with a sentence for the user: program not found, directory missing, arguments too large.
        TooLateError says that nothing ran.
        """
        request = _request(argv, environment, directory) | {"user": dict(user) if user else None}
        request |= _terms(terms)
        for _ in range(_ATTEMPTS):
            try:
                return self._spawn_once(request, private, on_step)
            except RequestNotTakenError:
                continue
        raise SupervisionError(f"the fork server could not take the request for {argv[0]}")

    def close(self) -> None:
        """End every task's tree and the server, and wait until all are gone."""
        with self._lock:
            self._is_closed = True
            running = list(self._running)
        for process in running:
            process.stop([StopStep(signal.SIGKILL, 0)])
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
    ) -> SupervisedProcess:
        pipes = _open_pipes()
        try:
            try:
                self._hand_over(pipes, private)
            finally:
                pipes.close_far_ends()
            status = StatusReader(pipes.status)
            pid = self._converse(pipes.control, status, request)
        except BaseException:
            pipes.close_near_ends()
            raise
        process = SupervisedProcess(
            pid,
            output=pipes.output,
            control=pipes.control,
            status=status,
            on_end=self._forget,
            on_step=on_step,
        )
        self._remember(process)
        return process

    def _hand_over(self, pipes: _Pipes, private: Path | None) -> None:
        """Give the far ends to the server, which forks a supervisor that holds them.

        With them goes, in a frame of fixed size, what to remove if that supervisor is killed.
        """
        folder = os.fsencode(private.absolute()) if private else b""
        if len(folder) > PRIVATE_BYTES:
            raise SupervisionError(f"the path {private} is too long")
        with self._lock:
            requests = self._ensure_server()
            try:
                socket.send_fds(requests, [folder.ljust(PRIVATE_BYTES, b"\0")], pipes.far_ends)
            except OSError as error:
                self._discard_server()
                raise RequestNotTakenError("the fork server has died") from error

    def _converse(self, control: int, status: StatusReader, request: dict[str, Any]) -> int:
        """Send the request to the new supervisor; return the program's pid.

        The request goes out only after the supervisor said hello: before that nothing can have
        run, so that a death up to there may be answered by asking again, and later ones may not.
        """
        try:
            self._next(status)
        except EOFError as error:
            raise RequestNotTakenError("the fork server has died") from error
        try:
            with contextlib.suppress(BrokenPipeError):  # Why nobody reads is in the answer.
                write_line(control, request)
            answer = self._next(status)
        except EOFError as error:
            raise SupervisionError("the supervisor died while it started the program") from error
        if "is_too_late" in answer:
            raise TooLateError(answer["error"])
        if "error" in answer:
            raise SupervisionError(answer["error"])
        return int(answer["pid"])

    def _next(self, status: StatusReader) -> dict[str, Any]:
        while (told := status.next(_NUDGE_SECONDS)) is None:
            # A task of the same user may have stopped the server with SIGSTOP.
            with self._lock:
                if self._server is not None:
                    self._server.send_signal(signal.SIGCONT)
        return told

    def _ensure_server(self) -> socket.socket:
        if self._is_closed:
            raise SupervisionError("the fork server is closed")
        if self._server is not None and self._server.poll() is not None:
            self._discard_server()
        if self._requests is None:
            self._requests = self._launch()
        return self._requests

    def _launch(self) -> socket.socket:
        try:
            near, far = socket.socketpair()
            with far:
                self._server = _run_server(far.fileno())
            self._launched(self._server.pid)
        except OSError as error:
            raise SupervisionError(f"the fork server cannot start: {error}") from error
        return near

    def _discard_server(self) -> None:
        """Forget a server that no longer answers. Its supervisors go on without it."""
        if self._requests is not None:
            self._requests.close()
        if self._server is not None:
            self._server.kill()
            self._server.wait()
        self._requests = self._server = None

    def _remember(self, process: SupervisedProcess) -> None:
        with self._lock:
            self._running.add(process)
            is_closed = self._is_closed
        if is_closed:
            process.stop([StopStep(signal.SIGKILL, 0)])
            os.close(process.output)
            _await_end(process)
            raise SupervisionError("the fork server is closed")

    def _forget(self, process: SupervisedProcess) -> None:
        with self._lock:
            self._running.discard(process)


class _Pipes(NamedTuple):
    """The worker's ends of a task's three pipes, and the ends that go to the supervisor."""

    output: int
    control: int
    status: int
    far_ends: list[int]

    def close_far_ends(self) -> None:
        for descriptor in self.far_ends:
            os.close(descriptor)

    def close_near_ends(self) -> None:
        for descriptor in (self.output, self.control, self.status):
            os.close(descriptor)


def _open_pipes() -> _Pipes:
    opened: list[int] = []
    try:
        for _ in range(3):
            opened.extend(os.pipe())
    except OSError as error:
        for descriptor in opened:
            os.close(descriptor)
        raise SupervisionError(f"no pipe for the task: {error.strerror}") from error
    output, log, orders, control, status, report = opened
    return _Pipes(output, control, status, [log, orders, report])


def _run_server(requests: int) -> subprocess.Popen[bytes]:
    # Its own session keeps a terminal's Ctrl-C away. Of the environment it gets only what the
    # interpreter needs: the worker's holds the runner token.
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return subprocess.Popen(
        [sys.executable, *_LEAN, "-c", _SERVER_CODE, _SERVER_FOLDER, str(requests)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=(requests,),
        start_new_session=True,
        cwd="/",
        env=kept,
    )


def _request(
    argv: Sequence[str], environment: Mapping[str, str], directory: Path
) -> dict[str, Any]:
    if not argv or not argv[0]:
        raise SupervisionError("there is no program to start")
    for text in (*argv, *environment.keys(), *environment.values(), str(directory)):
        if "\0" in text:
            raise SupervisionError("an argument or environment variable contains a NUL character")
    for name in environment:
        if not name or "=" in name:
            raise SupervisionError(f"{name!r} is no name for an environment variable")
    return {
        "argv": list(argv),
        "environment": dict(environment),
        "directory": str(directory.absolute()),
    }


def _terms(terms: Terms | None) -> dict[str, Any]:
    if terms is None:
        return {}
    request: dict[str, Any] = {"start_by": terms.start_by}
    if terms.until is not None:
        steps = [[int(step.signal), step.grace_seconds] for step in terms.steps]
        request["lease"] = {"until": terms.until, "steps": steps}
    return request


def _await_end(process: SupervisedProcess) -> None:
    # An error means that its supervisor was killed; the fork server has ended the tree.
    with contextlib.suppress(SupervisionError):
        process.wait()
