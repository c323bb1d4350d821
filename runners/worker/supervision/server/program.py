"""Starts the program of a task and explains in a sentence why it could not be started."""

from __future__ import annotations

import errno
import json
import os
import select
import warnings  # noqa: F401  os.execvpe wants it; better once here than after each fork
from typing import Any, NoReturn

from . import kernel


class ProgramError(Exception):
    """The program was not started; the text is for the user."""


class Program:
    """What to run: argument list, whole environment, absolute working directory, and as whom.

    user: uid, gid and groups of another user; None: the one who runs this.
    """

    def __init__(
        self,
        argv: list[str],
        environment: dict[str, str],
        directory: str,
        user: dict[str, Any] | None = None,
    ) -> None:
        self.argv = argv
        self.environment = environment
        self.directory = directory
        self.user = user

    def start(self, log: int) -> tuple[int, int]:
        """Fork, and have the child exec with stdout and stderr on `log`. Raises ProgramError.

        Returns the pid, and a descriptor that is at its end once the exec has gone well or the
        child is gone, or has something for `trouble` where it has not. That may take for ever: the
        program may lie where nobody answers.
        """
        supervisor = os.getpid()
        failures, report = os.pipe()
        try:
            pid = os.fork()
        except OSError as error:
            raise ProgramError(f"no process for the program: {error.strerror}") from error
        if pid == 0:
            self._become(log, report, supervisor)
        os.close(report)
        return pid, failures

    def trouble(self, failures: int) -> str:
        """Why the exec did not go well, as the descriptor of `start` tells; empty if it did."""
        failure = os.read(failures, select.PIPE_BUF)
        os.close(failures)
        return self._explain(*json.loads(failure)) if failure else ""

    def _become(self, log: int, report: int, supervisor: int) -> NoReturn:
        stage = "setup"
        try:
            self._prepare(log, supervisor)
            stage = "directory"
            os.chdir(self.directory)
            stage = "program"
            os.execvpe(self.argv[0], self.argv, self.environment)
        except OSError as error:
            os.write(report, json.dumps([stage, error.errno]).encode())
        finally:
            os._exit(127)

    def _prepare(self, log: int, supervisor: int) -> None:
        os.setsid()
        kernel.restore_signals()
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        if self.user is not None:
            os.setgroups(self.user["groups"])
            os.setgid(self.user["gid"])
            os.setuid(self.user["uid"])
        # After the change of user, with which the kernel forgets it.
        kernel.die_with_parent()
        if os.getppid() != supervisor:
            os._exit(127)  # The supervisor died before it could be noticed.

    def _explain(self, stage: str, number: int) -> str:
        if stage == "directory":
            return _explain_directory(self.directory, number)
        if stage == "setup":
            return f"the process of the program could not be prepared: {os.strerror(number)}"
        if number == errno.E2BIG:
            return (
                f"the arguments and environment of {self.argv[0]} are too large "
                f"({self._size():,} bytes; one value may have about 128 KB)"
            )
        return self._explain_program(number)

    def _explain_program(self, number: int) -> str:
        name = self.argv[0]
        if number == errno.ENOENT and "/" in name and os.path.exists(self._path()):
            return f"the interpreter that {name} names in its first line was not found"
        if number in (errno.ENOENT, errno.ENOTDIR):
            place = "" if "/" in name else f" in PATH ({self.environment.get('PATH', 'not set')})"
            return f"the program {name} was not found{place}"
        if number == errno.EACCES:
            return f"the program {name} is not executable"
        if number == errno.ENOEXEC:
            return f"{name} is neither a program for this machine nor a script with a #! line"
        return f"the program {name} could not be started: {os.strerror(number)}"

    def _path(self) -> str:
        return os.path.join(self.directory, self.argv[0])

    def _size(self) -> int:
        pairs = (f"{name}={value}" for name, value in self.environment.items())
        return sum(len(os.fsencode(text)) + 1 for text in (*self.argv, *pairs))


def _explain_directory(directory: str, number: int) -> str:
    if number == errno.ENOENT:
        return f"the directory {directory} does not exist"
    if number == errno.ENOTDIR:
        return f"{directory} is not a directory"
    return f"the directory {directory} cannot be entered: {os.strerror(number)}"
