"""What a template says otherwise than it did when one of its tasks was queued."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.errors import (
    TemplateDisabledError,
    TemplateNotRunnableError,
    TemplateRemovedError,
)
from tasks.models import Task, TaskTemplate
from tasks.sources import Sources

# Fields of a template that no run depends on.
OF_NO_RUN = frozenset({"name", "description", "safe_to_rerun"})
_WORDS = {
    "app": "app",
    "script": "script",
    "environment": "environment",
    "queue_id": "tags",
    "timeout_seconds": "timeout",
    "lost_runner_policy": "what happens if the runner is lost",
    "max_attempts": "number of attempts",
    "stop_steps": "steps of a stop",
}


def changed_parts(task: Task) -> list[str]:
    """In words, what another run of the template would have unlike this task; empty if nothing.

    Values of variable groups and access keys are no part of the template: every task is given
    those of the moment when it is claimed.
    """
    return list(_changed(task, task.template))


def _changed(task: Task, template: TaskTemplate) -> Iterator[str]:
    for name, words in _WORDS.items():
        if getattr(task, name) != getattr(template, name):
            yield words
    # Without a wait of its own a template has Forge's, which is no change of the template.
    wait = template.lost_runner_wait_seconds
    if wait is not None and wait != task.lost_runner_wait_seconds:
        yield "wait for a lost runner"
    if task.is_exclusive == template.allow_parallel:
        yield "whether several may run at once"
    if _given(task) != _given(template):
        yield "variable groups and access keys"


def _given(row: Task | TaskTemplate) -> tuple[set[int], set[tuple[int, str]]]:
    sources = Sources.noted(row)
    keys = {(key.id, key.variable) for key in sources.keys}
    return {group.id for group in sources.groups}, keys


def why_not_runnable(template: TaskTemplate) -> TemplateNotRunnableError | None:
    """What running it would raise; None if it can be run."""
    if template.removed_at is not None:
        return TemplateRemovedError(template.name)
    return TemplateDisabledError(template) if template.is_disabled else None
