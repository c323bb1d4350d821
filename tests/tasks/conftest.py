"""The cast and what it works with."""

from tests.cast import cast, registration, runner, running_task, superuser, task, template

__all__ = ["cast", "registration", "runner", "running_task", "superuser", "task", "template"]
