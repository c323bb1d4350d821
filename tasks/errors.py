"""What can go wrong with tasks. Each error's text is the sentence to show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from projects.errors import ForgeError

if TYPE_CHECKING:
    from tasks.models import Task


class TemplateNameTakenError(ForgeError):
    def __init__(self, name: str) -> None:
        super().__init__(f"This project already has a template called {name}. Choose another name.")
        self.name = name


class TemplateRemovedError(ForgeError):
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
