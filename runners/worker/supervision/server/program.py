"""Starts the program of a task and explains in a sentence why it could not be started."""

from __future__ import annotations

import errno
import json
import os
import select
from typing import Any, NamedTuple, NoReturn

from . import kernel

_MISSING = (errno.ENOENT, errno.ENOTDIR)
# What the host has too little of for any program.
_SCARCE = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


class ProgramError(Exception):
    """The program was not started; the text is for the user.

    is_of_host: no other program could have been started here either.
    """

    def __init__(self, sentence: str, *, of_host: bool = False) -> None:
        super().__init__(sentence)
        self.is_of_host = of_host

    def as_told(self) -> dict[str, Any]:
        """What the worker is told."""
        return {"error": str(self), "is_of_host": self.is_of_host}


class Failure(NamedTuple):
    """Why no exec went well.

    stage: what did not: `setup`, `directory` or `program`. number: its errno. place: which of the
    places it is about. is_there: whether a file lies there.
    """

    stage: str
    number: int
    place: int = 0
    is_there: bool = False

    @property
    def is_of_host(self) -> bool:
        """Not if the program, or the task's own folder, is what is missing."""
        if self.stage == "directory":
            return self.number not in _MISSING
        return self.stage == "setup" or self.number in _SCARCE


class Program:
    """What to run: argument list, whole environment, absolute working directory, and as whom.

    user: uid, gid and groups of another user; None: the one who runs this.
    places: paths of the program; the first that can be run is, and is told as argv[0]. None: as
    argv[0] says, looked for in the PATH of the environment where it is a bare name.
    """

    def __init__(
        self,
        argv: list[str],
        environment: dict[str, str],
        directory: str,
        user: dict[str, Any] | None = None,
        places: list[str] | None = None,
    ) -> None:
        self.argv = argv
        self.environment = environment
        self.directory = directory
        self.user = user
        self.is_placed = places is not None
        self.places = self._look_up() if places is None else places

    def start(self, log: int) -> tuple[int, int]:
        """Fork, and have the child exec with stdout and stderr on `log`. Raises ProgramError.

        Returns the pid, and a descriptor that is at its end once the exec has gone well or the
        child is gone, or has something for `trouble` where it has not. That may take for ever: the
        program may lie where nobody answers.
        """
        supervisor = os.getpid()
        try:
            failures, report = os.pipe()
            pid = os.fork()
        except OSError as error:
            why = f"no process for the program: {error.strerror}"
            raise ProgramError(why, of_host=True) from error
        if pid == 0:
            self._become(log, report, supervisor)
        os.close(report)
        return pid, failures

    def trouble(self, failures: int) -> ProgramError | None:
        """Why the exec did not go well, as the descriptor of `start` tells; None if it did."""
        told = os.read(failures, select.PIPE_BUF)
        os.close(failures)
        if not told:
            return None
        failure = Failure(*json.loads(told))
        return ProgramError(self._explain(failure), of_host=failure.is_of_host)

    def _look_up(self) -> list[str]:
        name = self.argv[0]
        if "/" in name:
            return [name]
        path = self.environment.get("PATH", os.defpath)
        return [os.path.join(folder, name) for folder in path.split(os.pathsep)]

    def _become(self, log: int, report: int, supervisor: int) -> NoReturn:
        try:
            failure = self._fail_to_become(log, supervisor)
            os.write(report, json.dumps(failure).encode())
        finally:
            os._exit(127)

    def _fail_to_become(self, log: int, supervisor: int) -> Failure:
        stage = "setup"
        try:
            self._prepare(log, supervisor)
            stage = "directory"
            os.chdir(self.directory)
        except OSError as error:
            return Failure(stage, error.errno or 0)
        return self._exec()

    def _exec(self) -> Failure:
        """Become the first program that there is; returns why that was not possible.

        Only here files are looked at, as the program's user: whoever does may wait for ever, and
        this process can be ended.
        """
        failures = [Failure("program", errno.ENOENT)]
        for place, path in enumerate(self.places):
            try:
                os.execve(path, self._arguments(path), self.environment)
            except OSError as error:
                number = error.errno or 0
            failures.append(Failure("program", number, place, os.path.isfile(path)))
            # What may not be run is passed over, as a shell does.
            if failures[-1].is_there and number != errno.EACCES:
                return failures[-1]
        return max(failures, key=_weight)

    def _arguments(self, path: str) -> list[str]:
        # Bash and Python find themselves by it, and would otherwise look in the PATH of the task.
        return [path, *self.argv[1:]] if self.is_placed else self.argv

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

    def _explain(self, failure: Failure) -> str:
        if failure.stage == "directory":
            return _explain_directory(self.directory, failure.number)
        if failure.stage == "setup":
            reason = os.strerror(failure.number)
            return f"the process of the program could not be prepared: {reason}"
        if failure.number in _MISSING and not failure.is_there:
            return self._explain_absence()
        return self._explain_program(self.places[failure.place], failure)

    def _explain_absence(self) -> str:
        name = self.argv[0]
        if self.is_placed:
            return f"{name} is not installed on this host, or not on the PATH of the runner"
        place = "" if "/" in name else f" in PATH ({self.environment.get('PATH', 'not set')})"
        return f"the program {name} was not found{place}"

    def _explain_program(self, path: str, failure: Failure) -> str:
        number = failure.number
        if number == errno.E2BIG:
            return (
                f"the arguments and environment of {path} are too large "
                f"({self._size():,} bytes; one value may have about 128 KB)"
            )
        if number == errno.ENOENT:
            return f"the interpreter that {path} names in its first line was not found"
        if number == errno.EACCES and not failure.is_there and len(self.places) > 1:
            return (
                f"{self.argv[0]} is not installed on this host, or lies where the task's user "
                f"may not look, as in {os.path.dirname(path)}"
            )
        if number == errno.EACCES:
            return f"the program {path} is not executable"
        if number == errno.ENOEXEC:
            return f"{path} is neither a program for this machine nor a script with a #! line"
        return f"the program {path} could not be started: {os.strerror(number)}"

    def _size(self) -> int:
        pairs = (f"{name}={value}" for name, value in self.environment.items())
        return sum(len(os.fsencode(text)) + 1 for text in (*self.argv, *pairs))


def _weight(failure: Failure) -> int:
    """How much is to be said of it."""
    return 0 if failure.number in _MISSING else 1 + failure.is_there


def _explain_directory(directory: str, number: int) -> str:
    if number == errno.ENOENT:
        return f"the directory {directory} does not exist"
    if number == errno.ENOTDIR:
        return f"{directory} is not a directory"
    return f"the directory {directory} cannot be entered: {os.strerror(number)}"
