"""The cast and what it works with."""

from tests.cast import cast, runner, running_task, superuser, task, template

__all__ = ["cast", "runner", "running_task", "superuser", "task", "template"]
