"""The one Celery function of a runner, and the orders that it takes."""

from __future__ import annotations

import logging
from typing import Any

from celery.worker.control import control_command

from runners.worker.errors import TaskFailedError, TaskStoppedError, UnsuccessfulError

JOB_NAME = "forge.run_task"


class TaskWords(logging.Filter):
    """Celery logs what a job raises as "raised expected", which tells an operator nothing."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, dict) and record.args.get("description") == "raised expected":
            record.args = {**record.args, "description": "did not succeed"}
        return True


def register(app: Any) -> None:
    """Make `forge.run_task` known to the worker's app."""
    logging.getLogger("celery.app.trace").addFilter(TaskWords())

    options: dict[str, Any] = {"acks_late": False, "ignore_result": False}
    # Named as expected, they are logged in one line, without a traceback.
    options["throws"] = (UnsuccessfulError,)

    @app.task(name=JOB_NAME, bind=True, **options)  # type: ignore[untyped-decorator]
    def run_task(self: Any, task: int, attempt: int) -> dict[str, Any]:
        """Claim and run one attempt of one task; a hint carries nothing else.

        Raises UnsuccessfulError when it failed or was stopped, so that Celery knows it too.
        """
        outcome: dict[str, Any] = self.app.agent.run(int(task), int(attempt))
        if outcome["outcome"] == "succeeded":
            return outcome
        is_stopped = outcome["outcome"] == "stopped"
        error = TaskStoppedError if is_stopped else TaskFailedError
        is_cut_short = outcome["is_cut_short"]
        raise error(outcome["exit_code"], outcome["reason"], is_cut_short)


@control_command(
    name="forge_stop",
    args=[("task", int), ("attempt", int), ("reason", str), ("force", bool)],
    signature="task attempt reason force",
)  # type: ignore[untyped-decorator]
def forge_stop(
    state: Any, task: int, attempt: int, reason: str = "Stopped.", force: bool = False
) -> dict[str, Any]:
    """Stop one attempt; the same order comes with the next heartbeat if this one is lost."""
    is_here = state.app.agent.runs.stop(
        int(task), int(attempt), str(reason)[:500], force=bool(force)
    )
    return {"ok": "stopping" if is_here else "not here"}


@control_command(name="forge_beat")  # type: ignore[untyped-decorator]
def forge_beat(state: Any) -> dict[str, Any]:
    """Send the heartbeat now: something has changed that its answer tells."""
    state.app.agent.ask_forge()
    return {"ok": "asked"}
