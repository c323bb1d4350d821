"""The filters of a project's task list: state, template, runner, person, time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.contrib.auth import get_user_model

from forge.pages import time_span
from forge.templatetags.forge_ui import person
from runners.models import Runner
from tasks.lifecycle import BAD, UNFINISHED, TaskState
from tasks.models import Task, TaskTemplate

if TYPE_CHECKING:
    from django.http import QueryDict

    from projects.models import Project
    from tasks.querysets import TaskQuerySet

_ACTIVE = (
    TaskState.QUEUED,
    TaskState.STARTING,
    TaskState.RUNNING,
    TaskState.STOPPING,
    TaskState.UNREACHABLE,
)
# What the address may say of states, with the menu's words. Nothing waits for an approval yet.
STATES: dict[str, tuple[str, frozenset[str]]] = {
    "active": ("Active", UNFINISHED),
    **{state.value: (state.label, frozenset({state})) for state in _ACTIVE},
    "failed": ("Failed or lost", BAD),
    "lost": (TaskState.LOST.label, frozenset({TaskState.LOST})),
    "succeeded": (TaskState.SUCCEEDED.label, frozenset({TaskState.SUCCEEDED})),
    "stopped": (TaskState.STOPPED.label, frozenset({TaskState.STOPPED})),
}
# Those that stand in a bar above the list.
SEGMENTS = {key: key.capitalize() for key in ("active", "failed", "succeeded", "stopped")}
SINCE = {
    "1h": ("last hour", timedelta(hours=1)),
    "24h": ("last 24 hours", timedelta(hours=24)),
    "7d": ("last 7 days", timedelta(days=7)),
    "30d": ("last 30 days", timedelta(days=30)),
}
NAMES = ("state", "template", "runner", "by", "since", "from", "until", "q")
MAXIMUM_CHOICES = 200


@dataclass(frozen=True)
class Menu:
    """One filter: what may be chosen, as (value, words), and what is."""

    name: str
    label: str
    choices: list[tuple[str, str]]
    chosen: str
    chosen_words: str
    without: str


def narrowed(
    rows: TaskQuerySet, query: QueryDict, *, project: Project, now: datetime
) -> TaskQuerySet:
    """Those of a person and of a time; what cannot match anything finds nothing."""
    if by := query.get("by"):
        rows = rows.filter(created_by=_number(by))
    if since := SINCE.get(query.get("since", "")):
        rows = time_span.since(rows, now - since[1], project=project)
    return time_span.within(rows, query, project=project)


def menus(project: Project, query: QueryDict) -> list[Menu]:
    templates = TaskTemplate.objects.filter(project=project)
    runners = Runner.objects.filter(project=project)
    times = {key: words for key, (words, _) in SINCE.items()}
    return [
        _states(query),
        _menu("template", _named(templates.present(), templates, query.get("template")), query),
        _menu("runner", _named(runners.present(), runners, query.get("runner")), query),
        _menu("by", _people(project, query.get("by")), query, label="Started by"),
        _menu("since", times, query, label="Queued in the"),
    ]


def _states(query: QueryDict) -> Menu:
    menu = _menu("state", {key: words for key, (words, _) in STATES.items()}, query)
    # Of a segment the bar says that it is chosen.
    return replace(menu, chosen_words="") if menu.chosen in SEGMENTS else menu


def _people(project: Project, chosen: str | None) -> dict[str, str]:
    """The members, and whoever is named and has left."""
    users = get_user_model().objects
    members = users.filter(memberships__project=project).order_by("username")[:MAXIMUM_CHOICES]
    found = {str(one.pk): person(one) for one in members}
    number = _number(chosen or "")
    if number and chosen not in found:
        is_known = Task.objects.filter(project=project, created_by=number).exists()
        found |= {str(one.pk): person(one) for one in users.filter(pk=number) if is_known}
    return found


def _named(present: Any, every: Any, chosen: str | None) -> dict[str, str]:
    """Names by number; what was removed stays a choice where the address names it."""
    rows = present.order_by("name").values_list("pk", "name")[:MAXIMUM_CHOICES]
    found = {str(pk): name for pk, name in rows}
    number = _number(chosen or "")
    if number and chosen not in found:
        found |= {str(one.pk): str(one) for one in every.filter(pk=number)}
    return found


def _menu(name: str, choices: dict[str, str], query: QueryDict, *, label: str = "") -> Menu:
    chosen = query.get(name, "")
    others = {key: query[key] for key in NAMES if key != name and query.get(key)}
    return Menu(
        name=name,
        label=label or name.capitalize(),
        choices=list(choices.items()),
        chosen=chosen,
        chosen_words=choices.get(chosen, ""),
        without=urlencode(others),
    )


def _number(text: str) -> int:
    """A number that a row may have; 0 for anything else."""
    is_number = text.isascii() and text.isdigit() and len(text) < 19
    return int(text) if is_number else 0
