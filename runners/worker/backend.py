"""Celery's result backend for runners: outcomes go to Forge, by way of the journal."""

from __future__ import annotations

from typing import Any

from celery import states
from celery.backends.base import BaseBackend

from runners.worker.errors import UnsuccessfulError
from runners.worker.execution import Outcome


class ForgeBackend(BaseBackend):  # type: ignore[misc]
    """Celery stores a task's outcome by calling this, in the thread that ran the task.

    The outcome is written to the runner's journal, durably, and handed to the uploader, unless
    that was done when the program had ended. The task is finished when Forge has said so; until
    then the journal keeps it, also across a restart of the worker.
    """

    app: Any

    def as_uri(self, include_password: bool = True) -> str:
        """What the worker's banner says about results."""
        return "Forge, by way of the journal"

    def encode_result(self, result: Any, state: str) -> Any:
        """As Celery's; but what the job raised stays what it is: it holds the outcome."""
        if isinstance(result, UnsuccessfulError):
            return result
        return super().encode_result(result, state)

    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, **ignored: Any
    ) -> Any:
        if state not in (states.SUCCESS, states.FAILURE):
            # A cold shutdown marks its jobs as to be retried; they are being stopped, and
            # their outcome follows. Of what was stopped Celery says REVOKED after FAILURE, with
            # which the outcome came.
            return result
        task, _dot, attempt = task_id.partition(".")
        self.app.agent.deliver(int(task), int(attempt), _outcome(result, state))
        return result

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        """Results are read from Forge; a worker has nobody to show them to."""
        return {"status": states.PENDING, "result": None}

    def _forget(self, task_id: str) -> None:
        """Nothing is kept here that could be forgotten."""


def _outcome(result: Any, state: str) -> Outcome:
    if state == states.SUCCESS and isinstance(result, dict):
        return Outcome(**result)
    if isinstance(result, UnsuccessfulError):
        cut = result.is_cut_short
        return Outcome(result.outcome, result.exit_code, result.reason, is_cut_short=cut)
    return Outcome("failed", None, f"The worker failed while it ran the task: {result!r}"[:500])
