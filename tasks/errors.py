"""What can go wrong with tasks. Each error's text is the sentence to show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from projects.errors import ForgeError, NameTakenError

if TYPE_CHECKING:
    from tasks.models import Task, TaskTemplate


class TemplateNameTakenError(NameTakenError):
    def __init__(self, name: str) -> None:
        super().__init__("This project already has a template", name)


class TemplateNotRunnableError(ForgeError):
    """Base of what keeps a template from being run."""


class TemplateDisabledError(TemplateNotRunnableError):
    def __init__(self, template: TaskTemplate) -> None:
        super().__init__(
            f"The template {template.name} cannot be run: {template.disabler} disabled it "
            f"({template.disabled_reason.rstrip('.')}). A manager of its project can enable it."
        )
        self.template = template


class TemplateRemovedError(TemplateNotRunnableError):
    def __init__(self, name: str) -> None:
        super().__init__(f"The template {name} was removed and cannot be run.")
        self.name = name


class TaskFinishedError(ForgeError):
    def __init__(self, task: Task) -> None:
        super().__init__(f"Task #{task.pk} is already finished: {task.get_state_display()}.")
        self.task = task


class ClaimRefusedError(ForgeError):
    """The hint is to be dropped: the task is not this runner's to start."""

    def __init__(self, task_id: int, why: str) -> None:
        super().__init__(f"Task #{task_id} cannot be claimed: {why}.")
        self.task_id = task_id
        self.why = why


class UndeliverableError(ForgeError):
    """A runner would not read the job, and would ask for it again and again."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"no runner can be given all of it: {why} Take variable groups or access keys off its "
            "template, or make them smaller."
        )


class SourceUnknownError(ForgeError):
    def __init__(self, what: str, pk: int) -> None:
        super().__init__(f"This project has no {what} with the id {pk}.")
        self.pk = pk


class SourceConflictError(ForgeError):
    """Two places would set one variable of a template's process."""

    def __init__(self, template: str, name: str, first: str, second: str) -> None:
        super().__init__(
            f"In the template {template}, {name} would be set by {first} and by {second}. "
            "Rename it in one of them, or take one of them away."
        )
        self.template = template
        self.name = name


class SourceInUseError(ForgeError):
    """A variable group or access key that templates use is not removed under their feet."""

    SHOWN = 5

    def __init__(self, what: str, templates: Sequence[str]) -> None:
        named = ", ".join(templates[: self.SHOWN])
        more = f" and {len(templates) - self.SHOWN} more" if len(templates) > self.SHOWN else ""
        one = len(templates) == 1
        super().__init__(
            f"{what} is used by the template{'' if one else 's'} {named}{more}. "
            f"Take it away from {'it' if one else 'them'} first."
        )
        self.templates = templates
