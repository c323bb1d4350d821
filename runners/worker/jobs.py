"""The one Celery function of a runner, and the one order that it takes."""

from __future__ import annotations

from typing import Any

from celery.worker.control import control_command

JOB_NAME = "forge.run_task"


def register(app: Any) -> None:
    """Make `forge.run_task` known to the worker's app."""

    @app.task(name=JOB_NAME, bind=True, acks_late=False, ignore_result=False)  # type: ignore[untyped-decorator]
    def run_task(self: Any, task: int, attempt: int) -> dict[str, Any]:
        """Claim and run one attempt of one task; a hint carries nothing else."""
        outcome: dict[str, Any] = self.app.agent.run(int(task), int(attempt))
        return outcome


@control_command(
    name="forge_stop",
    args=[("task", int), ("attempt", int), ("reason", str), ("force", bool)],
    signature="task attempt reason force",
)  # type: ignore[untyped-decorator]
def forge_stop(
    state: Any, task: int, attempt: int, reason: str = "Stopped.", force: bool = False
) -> dict[str, Any]:
    """Stop one attempt; the same order comes with the next heartbeat if this one is lost."""
    is_here = state.app.agent.stop(int(task), int(attempt), str(reason)[:500], force=bool(force))
    return {"ok": "stopping" if is_here else "not here"}
