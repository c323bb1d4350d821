"""What the pages say about access keys and variable groups: who uses them, what is wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from projects.encryption import keys
from projects.errors import SecretsKeyError
from projects.words import number
from tasks.models import TaskTemplate, TemplateAccessKey

if TYPE_CHECKING:
    from projects.models import Project


def key_trouble() -> str:
    """Why no secret can be stored now, and what to do; empty when one can."""
    try:
        keys()
    except SecretsKeyError as error:
        return str(error)
    return ""


def credentials_sentence(noun: str, problems: list[str]) -> str:
    """The line under the title: what there is, or what needs attention first."""
    count = len(problems)
    if not count:
        return "Encrypted, given only to the runner that claims a task, masked in its log."
    bad = sum(1 for problem in problems if problem)
    words = f"{number(count)} {noun}{'' if count == 1 else 's'}"
    if bad:
        return f"{words}. {number(bad)} cannot be read, and tasks that need it fail."
    return f"{words}. Secrets can be replaced, and never read back."


def users_of_keys(project: Project) -> dict[int, list[TaskTemplate]]:
    """Templates by the access key that they use."""
    uses = TemplateAccessKey.objects.filter(
        access_key__project=project, template__removed_at=None
    ).select_related("template")
    return _by_source((use.access_key_id, use.template) for use in uses)


def users_of_groups(project: Project) -> dict[int, list[TaskTemplate]]:
    """Templates by the variable group that they use."""
    rows = TaskTemplate.objects.present().filter(project=project)
    rows = rows.prefetch_related("variable_groups").defer("script", "environment")
    return _by_source((group.pk, row) for row in rows for group in row.variable_groups.all())


def _by_source(pairs: Iterable[tuple[int, TaskTemplate]]) -> dict[int, list[TaskTemplate]]:
    found: dict[int, list[TaskTemplate]] = defaultdict(list)
    for pk, template in pairs:
        found[pk].append(template)
    return found
