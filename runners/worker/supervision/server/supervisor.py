"""Watches over one program and everything it starts, until nothing of it is left."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
from typing import Any

from . import kernel
from .program import Program, ProgramError
from .removal import remove_folder
from .stopping import Stopping

_LEFTOVER_STEPS = [(int(signal.SIGTERM), 1.0)]
_LONGEST_WAIT = 3600.0
# With a lease: `poll` sleeps on through a suspension of the host, the lease does not.
_LEASE_LOOK = 1.0
_GREW_OLD = (
    "the permission to start it had run out; this host, or the worker, stood still meanwhile"
)


def supervise(log: int, control: int, status: int, private: bytes = b"") -> None:
    """Start the program that the control pipe asks for and return when its tree is gone.

    log: given to the program as stdout and stderr. control: lines of JSON from the worker, first
    the request, then orders; its end means that the worker is dead. status: lines of JSON to the
    worker: this pid, then the program's pid, and whether its start came to an end before it was to
    be ended, or why it did not start, each step of a stop, at last the ending.
    private: a folder to remove when the tree is gone, before the worker is told the ending.
    """
    os.setsid()
    kernel.become_subreaper()
    kernel.set_name(b"forge-supervise")
    tell(status, {"supervisor": os.getpid()})
    ending = _run(log, Orders(control), status)
    remove_folder(private)
    if ending is not None:
        tell(status, ending)


def _run(log: int, orders: Orders, status: int) -> dict[str, Any] | None:
    """The last thing to tell the worker; None if the worker died before it asked for anything."""
    request = orders.wait_for_one()
    if request is None:
        return None
    lease = Lease(request.pop("lease", None))
    start_by = request.pop("start_by", None)
    if start_by is not None and kernel.boot_seconds() > start_by:
        return {"error": _GREW_OLD, "is_too_late": True}
    try:
        exits = _child_exits()
        program = Program(**request)
        started = program.start(log)
    except ProgramError as error:
        return error.as_told()
    os.close(log)
    return Supervisor(program, started, orders, exits, status, lease).run()


def _child_exits() -> kernel.ChildExits:
    try:
        return kernel.ChildExits()
    except OSError as error:
        raise ProgramError(f"no pipe for its supervisor: {error.strerror}", of_host=True) from error


class Lease:
    """Until when the tree may run without a word from the worker, and how it ends then.

    It holds also while the worker is suspended: this process goes on by itself. `terms` are
    `until` (boot seconds) and `steps` (signal, grace); without any it never ends.
    """

    def __init__(self, terms: dict[str, Any] | None) -> None:
        self._until: float | None = terms["until"] if terms else None
        self.steps = [(number, grace) for number, grace in terms["steps"]] if terms else []
        self.has_ended = False

    def extend(self, until: float) -> None:
        """Too late once it has ended: what is being ended is not saved."""
        if self._until is not None:
            self._until = max(self._until, until)

    def ends_now(self) -> bool:
        """True once, when its time has come."""
        if self.has_ended or self._until is None or kernel.boot_seconds() < self._until:
            return False
        self.has_ended = True
        return True

    def seconds_to_wait(self) -> float:
        if self.has_ended or self._until is None:
            return _LONGEST_WAIT
        return min(max(0.0, self._until - kernel.boot_seconds()), _LEASE_LOOK)


class Supervisor:
    """Minds a program from its fork on: a start that does not come to an end can be ended too."""

    def __init__(
        self,
        program: Program,
        started: tuple[int, int],
        orders: Orders,
        exits: kernel.ChildExits,
        status: int,
        lease: Lease,
    ) -> None:
        self._program = program
        # _failures: the descriptor that tells how the start went; None once it has.
        self._failures: int | None
        self._pid, self._failures = started
        self._started_pid = self._pid
        self._trouble: ProgramError | None = None
        self._status = status
        self._lease = lease
        self._orders = orders
        self._exits = exits
        self._server = os.getppid()
        self._poll = select.poll()
        self._poll.register(orders.control, select.POLLIN)
        self._poll.register(exits.descriptor, select.POLLIN)
        self._poll.register(self._failures, select.POLLIN)
        self._stopping = Stopping(lambda step: tell(status, {"step": step}))
        self._is_stop_ordered = False
        self._is_start_ended = False
        self._wait_status: int | None = None
        self._leftovers: set[int] = set()
        self._is_cut_short = False

    def run(self) -> dict[str, Any]:
        """Return the ending once there is no child left, or why the program did not start."""
        self._carry_out(self._orders.take())
        while self._reap():
            self._mind_lease()
            signalled = self._stopping.advance()
            # Not if it had ended by itself, and only what it left behind is still to be ended.
            self._is_cut_short |= self._lease.has_ended and self._pid in signalled
            if self._wait_status is not None:
                self._leftovers |= signalled
            self._wait()
        self._note_start()
        return self._trouble.as_told() if self._trouble else self._ending()

    def _note_start(self) -> None:
        """The start has come to its end, if only by that of its process."""
        if self._failures is None:
            return
        failures, self._failures = self._failures, None
        self._poll.unregister(failures)
        pid = self._started_pid
        self._trouble = self._program.trouble(failures)
        if not self._trouble:
            # Of what was killed nobody can say whether its exec had not just gone well after all.
            begun = {"has_begun": not self._is_start_ended, "begun_at": kernel.boot_seconds()}
            tell(self._status, {"pid": pid, **begun})

    def _mind_lease(self) -> None:
        if self._lease.ends_now():
            # Of a stop that is under way only its end is left time for.
            self._stop([] if self._is_stop_ordered else self._lease.steps, "lease")
            self._is_stop_ordered = True

    def _stop(self, steps: list[tuple[int, float]], cause: str) -> None:
        """What has not begun has nothing to clean up, and is yet to ignore signals or not to."""
        if self._failures is not None and select.select([self._failures], [], [], 0)[0]:
            self._note_start()
        self._is_start_ended |= self._failures is not None
        self._stopping.begin(steps if self._failures is None else [], cause)

    def _reap(self) -> bool:
        """Collect every dead child, born or adopted; False once the kernel says ECHILD."""
        self._exits.clear()
        try:
            while True:
                pid, wait_status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return True
                if pid == self._pid:
                    self._program_exited(wait_status)
        except ChildProcessError:
            return False

    def _program_exited(self, wait_status: int) -> None:
        self._wait_status = wait_status
        self._pid = 0  # The number may come back for another process of the tree.
        if not self._stopping.has_begun:
            self._stopping.begin(_LEFTOVER_STEPS, "leftovers")
        else:
            self._stopping.hasten()

    def _wait(self) -> None:
        seconds = self._stopping.seconds_to_wait()
        lease = self._lease.seconds_to_wait()
        seconds = lease if seconds is None else min(seconds, lease)
        for descriptor, _ in self._poll.poll(seconds * 1000):
            if descriptor == self._orders.control:
                self._obey()
            elif descriptor == self._failures:
                self._note_start()

    def _obey(self) -> None:
        self._carry_out(self._orders.read())
        if self._orders.is_closed:
            self._poll.unregister(self._orders.control)
            self._stopping.begin([], "worker")
            self._wake_server()

    def _carry_out(self, orders: list[dict[str, Any]]) -> None:
        for order in orders:
            if "lease" in order:
                self._lease.extend(order["lease"])
            # What a finished program left behind is already being ended, within a second, and
            # what has no lease any more as quickly as can be.
            elif (self._wait_status is None or self._is_stop_ordered) and not self._lease.has_ended:
                self._is_stop_ordered = True
                self._stop([(number, grace) for number, grace in order["stop"]], "order")

    def _wake_server(self) -> None:
        """Continue a fork server that a task has stopped, so that it can leave as well."""
        if os.getppid() == self._server:
            os.kill(self._server, signal.SIGCONT)

    def _ending(self) -> dict[str, Any]:
        code = os.waitstatus_to_exitcode(self._wait_status or 0)
        return {
            "exit_code": code if code >= 0 else None,
            "signal": -code if code < 0 else None,
            "leftovers": len(self._leftovers),
            "steps": self._stopping.sentences(),
            "seconds": self._stopping.seconds(),
            "lease_ended": self._is_cut_short,
        }


class Orders:
    """What the worker wants: JSON objects, one a line, from the control pipe."""

    def __init__(self, control: int) -> None:
        self.control = control
        self.is_closed = False
        self._buffer = bytearray()
        self._complete: list[dict[str, Any]] = []

    def wait_for_one(self) -> dict[str, Any] | None:
        """Return the first order; None if the worker died before it was complete."""
        while not (self._complete or self.is_closed):
            self._read()
        return self._complete.pop(0) if self._complete else None

    def take(self) -> list[dict[str, Any]]:
        """Return the orders that have come with the first one."""
        orders, self._complete = self._complete, []
        return orders

    def read(self) -> list[dict[str, Any]]:
        """Return the orders that one read completes; may block if nothing is there."""
        self._read()
        return self.take()

    def _read(self) -> None:
        chunk = os.read(self.control, 1 << 20)
        self.is_closed = not chunk
        self._buffer += chunk
        if b"\n" in chunk:
            *lines, rest = self._buffer.split(b"\n")
            self._buffer = rest
            self._complete += map(json.loads, lines)


def tell(status: int, fact: dict[str, Any]) -> None:
    """Write a fact to the worker, if it is still there."""
    with contextlib.suppress(BrokenPipeError):
        os.write(status, json.dumps(fact).encode() + b"\n")
