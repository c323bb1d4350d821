"""What a task's process finds in its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping

from runners.worker.protocol import Job
from runners.worker.task_users import PERSONAL_VARIABLES, TaskUser

# The worker's own settings, its token among them, are no task's business.
PRIVATE_PREFIXES = ("FORGE_", "CELERY_", "CELERYD_")


def settings_of(job: Job, *, runner: str, url: str) -> dict[str, str]:
    """What Forge says of the task: which one it is, and whose."""
    return {
        "FORGE_TASK_ID": str(job.task),
        "FORGE_ATTEMPT": str(job.attempt),
        "FORGE_PROJECT": job.project,
        "FORGE_TEMPLATE": job.template,
        "FORGE_RUNNER": runner,
        "FORGE_URL": url,
    }


def environment_for(job: Job, user: TaskUser | None, settings: Mapping[str, str]) -> dict[str, str]:
    """All of it. `settings` are Forge's own, which nothing of the job's replaces."""
    inherited = {
        name: content
        for name, content in os.environ.items()
        if not name.startswith(PRIVATE_PREFIXES)
    }
    if user is not None:
        for name in PERSONAL_VARIABLES:
            inherited.pop(name, None)
        inherited.update(user.environment)
    # Python would otherwise keep its output back until a block is full: no live log.
    unbuffered = {"PYTHONUNBUFFERED": "1"}
    return {**inherited, **unbuffered, **job.environment, **job.secrets, **settings}
