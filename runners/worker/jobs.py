"""The one Celery function of a runner."""

from __future__ import annotations

import logging
from typing import Any

from runners.worker.errors import TaskFailedError, TaskStoppedError, UnsuccessfulError
from runners.worker.orders import refuse_celerys, use_mailbox

JOB_NAME = "forge.run_task"


class TaskWords(logging.Filter):
    """Celery logs what a job raises as "raised expected", which tells an operator nothing."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, dict) and record.args.get("description") == "raised expected":
            record.args = {**record.args, "description": "did not succeed"}
        return True


def register(app: Any) -> None:
    """Make `forge.run_task` known to the worker's app, and orders that are not Forge's not."""
    refuse_celerys()
    use_mailbox()
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
