"""The cast and what it works with."""

from tests.cast import (
    access_key,
    cast,
    registration,
    runner,
    running_task,
    superuser,
    task,
    template,
    variable_group,
)

__all__ = [
    "access_key",
    "cast",
    "registration",
    "runner",
    "running_task",
    "superuser",
    "task",
    "template",
    "variable_group",
]
