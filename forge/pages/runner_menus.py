"""What stands above a list of runners to choose from: groups of statuses, and menus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from forge.lists.runner_filters import GROUPS, STATUSES
from forge.pages.misread import Misread, short, why_unknown
from forge.pages.task_filters import MAXIMUM_CHOICES, Menu
from projects.models import Project
from runners.models import Runner

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from runners.models import RunnerQuerySet


def understood(asked: Mapping[str, str]) -> tuple[dict[str, str], list[Misread]]:
    """What the address asks for without a status that there is not, and what that is."""
    status = asked.get("status", "")
    known = [*GROUPS, *map(str, STATUSES)]
    if not status or status in known:
        return dict(asked), []
    rest = {name: text for name, text in asked.items() if name != "status"}
    return rest, [Misread("status", f"{short(status)} {why_unknown(known)}")]


def segments(counts: Counter[str], asked: Mapping[str, str]) -> list[dict[str, Any]]:
    """The groups to choose from, each with how many it has and its query; `counts` by group."""
    others = {name: text for name, text in asked.items() if name != "status"}
    current = asked.get("status", "")
    found = [("", "All", counts.total())]
    found += [(word, label, counts[word]) for word, (label, _) in GROUPS.items()]
    return [
        {
            "word": word or "all",
            "label": label,
            "count": count,
            "is_current": word == current,
            "query": urlencode({"status": word} | others if word else others),
        }
        for word, label, count in found
    ]


def menus_in(project: Project, asked: Mapping[str, str]) -> list[Menu]:
    """As `menus`, where the project is chosen."""
    runners = Runner.objects.present().filter(project=project)
    choices = {
        "status": {str(status): str(status.label) for status in STATUSES},
        "tag": _texts(runners, "tags__name"),
        "version": _texts(runners, "version"),
    }
    return [_menu(name, found, asked) for name, found in choices.items()]


def menus(user: User, asked: Mapping[str, str]) -> list[Menu]:
    runners = Runner.objects.for_user(user)
    projects = Project.objects.for_user(user).values_list("pk", "name")[:MAXIMUM_CHOICES]
    choices = {
        "status": {str(status): str(status.label) for status in STATUSES},
        "project": {str(pk): name for pk, name in projects},
        "tag": _texts(runners, "tags__name"),
        "version": _texts(runners, "version"),
    }
    return [_menu(name, found, asked) for name, found in choices.items()]


def _texts(runners: RunnerQuerySet, field: str) -> dict[str, str]:
    found = runners.order_by(field).values_list(field, flat=True).distinct()
    return {text: text for text in found[:MAXIMUM_CHOICES] if text}


def _menu(name: str, choices: dict[str, str], asked: Mapping[str, str]) -> Menu:
    chosen = asked.get(name, "")
    # A group of statuses has a place of its own beside the menus.
    words = "" if name == "status" and chosen in GROUPS else choices.get(chosen, chosen)
    others = {key: text for key, text in asked.items() if key != name}
    return Menu(name, name.capitalize(), list(choices.items()), chosen, words, urlencode(others))
