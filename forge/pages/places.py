"""The pages that have names of their own, as the palette lists them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.urls import reverse

from projects.permissions import ACTIONS_OF, Action

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from projects.models import Project


@dataclass(frozen=True)
class Place:
    name: str
    icon: str
    address: str
    about: str
    is_of_project: bool = False


# Of each project: name, icon, name of the address, and what whoever goes there must be allowed.
_OF_PROJECT = (
    ("Overview", "overview", "project", Action.PROJECT_VIEW),
    ("Tasks", "tasks", "tasks", Action.PROJECT_VIEW),
    ("Queue", "queued", "queue", Action.PROJECT_VIEW),
    ("Templates", "template", "templates", Action.PROJECT_VIEW),
    ("Runners", "runner", "runners", Action.PROJECT_VIEW),
    ("Variable groups", "variables", "variable-groups", Action.PROJECT_VIEW),
    ("Access keys", "key", "access-keys", Action.PROJECT_VIEW),
    ("Members", "members", "members", Action.PROJECT_VIEW),
    ("Audit log", "audit", "audit", Action.AUDIT_VIEW),
    ("Project settings", "edit", "project-settings", Action.PROJECT_CHANGE),
    ("Registration tokens", "key", "registration-tokens", Action.RUNNER_CHANGE),
    ("New template", "plus", "template-new", Action.TEMPLATE_CHANGE),
    ("Stop all tasks", "stop", "stop-all", Action.TASK_STOP),
    ("Add runner", "plus", "runner-new", Action.RUNNER_CHANGE),
)


def places_of(user: User, project: Project | None) -> list[Place]:
    """Those that `user` may open: of the project, then of the whole installation."""
    return [*(_in_project(user, project) if project else ()), *_everywhere(user)]


def _in_project(user: User, project: Project) -> list[Place]:
    role = project.role_of(user)
    allowed = ACTIONS_OF[role] if role else frozenset()
    return [
        Place(name, icon, reverse(address, args=(project.pk,)), project.name, True)
        for name, icon, address, needed in _OF_PROJECT
        if needed in allowed
    ]


def _everywhere(user: User) -> list[Place]:
    found = [
        Place("All projects", "template", reverse("home"), "page"),
        Place("Runners of all projects", "runner", reverse("runners-all"), "page"),
        Place("API tokens", "key", reverse("tokens"), "page"),
        Place("API documentation", "info", reverse("api-docs"), "page"),
    ]
    if user.is_superuser:
        found.append(
            Place("Audit log of all projects", "audit", reverse("audit-all"), "page"),
        )
    if user.is_staff:
        found.append(Place("Admin", "outdated", reverse("admin:index"), "page"))
    return found
