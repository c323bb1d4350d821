"""Runs a task's program below a supervisor that can end everything the program ever started.

    worker --- fork server (subreaper) --- supervisor (subreaper) --- program --- ...
                                       `-- supervisor (subreaper) --- program --- ...

The worker holds one end of a pipe per task. When that end closes, also because the worker was
killed with signal 9, the supervisor ends every descendant and leaves only when the kernel says
that it has no child left. Everything in `server/` runs outside the worker, in small processes.
"""

from runners.worker.supervision.errors import SupervisionError
from runners.worker.supervision.fork_server import ForkServer
from runners.worker.supervision.process import Ending, StopStep, SupervisedProcess
from runners.worker.supervision.server.kernel import hide_memory

__all__ = [
    "Ending",
    "ForkServer",
    "StopStep",
    "SupervisedProcess",
    "SupervisionError",
    "hide_memory",
]
