"""What of a task list's address is understood, and a sentence about each part that is not."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from django.contrib.auth import get_user_model

from forge.pages.misread import Misread, short, why_unknown
from forge.pages.task_filters import NAMES, SINCE
from forge.pages.time_span import is_backwards, why_no_moment
from projects.words import whole_number
from runners.models import Runner
from tasks.models import Task, TaskTemplate

if TYPE_CHECKING:
    from django.http import QueryDict

    from projects.models import Project

# What pages and their live parts add to the filters.
_OF_PAGES = frozenset({"before", "after", "top", "active", "part"})
MAXIMUM_TOLD = 5


def understood(
    query: QueryDict, *, project: Project, states: Collection[str]
) -> tuple[QueryDict, list[Misread]]:
    """The query without what means nothing here, and what that is.

    A person whom this project does not know is told of like one who does not exist.
    """
    misread = list(_misread(query, project, states))
    rest = query.copy()
    for one in misread:
        del rest[one.name]
    return rest, misread[:MAXIMUM_TOLD]


def _misread(query: QueryDict, project: Project, states: Collection[str]) -> Iterator[Misread]:
    for name in query:
        given = query.get(name, "")
        if name not in NAMES and name not in _OF_PAGES:
            yield Misread(name, "Tasks are not filtered by this.")
        elif given and (why := _why_not(name, given, project, states)):
            yield Misread(name, f"{short(given)} {why}")
        elif given and (why := why_no_moment(name, given)):
            yield Misread(name, why)
    if is_backwards(query):
        yield Misread("until", f"{short(query.get('until', ''))} is not after the beginning.")


def _why_not(name: str, given: str, project: Project, states: Collection[str]) -> str:
    """Behind what was given; empty if it means something."""
    number = whole_number(given)
    if name == "state" and given not in states:
        return why_unknown(states)
    if name == "since" and given not in SINCE:
        return why_unknown(SINCE)
    if name == "template" and not _has(TaskTemplate, project, number):
        return "is no number of a template of this project."
    if name == "runner" and not _has(Runner, project, number):
        return "is no number of a runner of this project."
    if name == "by" and not _is_known(project, number):
        return "is no number of a member, nor of anybody who has started a task here."
    return ""


def _has(model: type[TaskTemplate | Runner], project: Project, number: int) -> bool:
    return model._default_manager.filter(project=project, pk=number).exists()


def _is_known(project: Project, number: int) -> bool:
    members = get_user_model().objects.filter(memberships__project=project, pk=number)
    return members.exists() or Task.objects.filter(project=project, created_by=number).exists()
