"""Copies of templates: what a copy takes over, and how it is called."""

from __future__ import annotations

from itertools import count

from tasks.models import TaskTemplate

MAXIMUM_NAME = 80


def copy_of(template: TaskTemplate) -> TaskTemplate:
    """A new template that says the same under a free name, not stored.

    What it is linked to, tags, variable groups and access keys, is for `save_template` to link.
    """
    fields = {
        field.name: getattr(template, field.name)
        for field in TaskTemplate._meta.concrete_fields
        if field.editable and not field.primary_key
    }
    return TaskTemplate(**fields | {"name": free_name(template)})


def free_name(template: TaskTemplate) -> str:
    """`Deploy (copy)`, `Deploy (copy 2)`: the first that no template of its project has."""
    others = TaskTemplate.objects.present().filter(project_id=template.project_id)
    taken = {name.lower() for name in others.values_list("name", flat=True)}
    for number in count(1):
        end = " (copy)" if number == 1 else f" (copy {number})"
        name = template.name[: MAXIMUM_NAME - len(end)].rstrip() + end
        if name.lower() not in taken:
            return name
    raise AssertionError("numbers do not end")
