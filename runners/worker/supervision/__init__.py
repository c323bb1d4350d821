"""Runs a task's program below a supervisor that can end everything the program ever started.

    worker --- fork server (subreaper) --- supervisor (subreaper) --- program --- ...
                                       `-- supervisor (subreaper) --- program --- ...

The worker holds one end of a pipe per task. When that end closes, also because the worker was
killed with signal 9, the supervisor ends every descendant and leaves only when the kernel says
that it has no child left. What has lost its supervisor is ended by the fork server; what has lost
both lands at the worker, if that adopts orphans, and is ended there. Where a task has a lease, the
supervisor minds it too: the worker extends it through the pipe, and a worker that is suspended
extends nothing. Everything in `server/` runs outside the worker, in small processes.
"""

from runners.worker.supervision.control import Control
from runners.worker.supervision.errors import (
    HostError,
    SupervisionError,
    SupervisorLostError,
    TooLateError,
)
from runners.worker.supervision.fork_server import ForkServer
from runners.worker.supervision.launch import Note
from runners.worker.supervision.pipes import capacity_of, is_readable, read_some
from runners.worker.supervision.process import (
    Ending,
    StepDone,
    StopStep,
    SupervisedProcess,
    Terms,
)
from runners.worker.supervision.server.descendants import open_handle, signal_below
from runners.worker.supervision.server.kernel import boot_seconds, hide_memory
from runners.worker.supervision.server.removal import remove_folder

__all__ = [
    "Control",
    "Ending",
    "ForkServer",
    "HostError",
    "Note",
    "StepDone",
    "StopStep",
    "SupervisedProcess",
    "SupervisionError",
    "SupervisorLostError",
    "Terms",
    "TooLateError",
    "boot_seconds",
    "capacity_of",
    "hide_memory",
    "is_readable",
    "open_handle",
    "read_some",
    "remove_folder",
    "signal_below",
]
