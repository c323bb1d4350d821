"""Who may do what: one table of role by action.

An action is `resource:verb`. A view asks `project.allows(user, Action.…)`; a user who is no
member never gets that far, because every object is fetched through `for_user` (404).
"""

from __future__ import annotations

from django.db.models import TextChoices


class Role(TextChoices):
    OWNER = "owner", "Owner"
    MANAGER = "manager", "Manager"
    OPERATOR = "operator", "Operator"
    VIEWER = "viewer", "Viewer"

    def is_above(self, other: Role | None) -> bool:
        """Whether it may do more than `other`; None is no role at all."""
        return other is None or not ACTIONS_OF[self] <= ACTIONS_OF[other]


class Action(TextChoices):
    PROJECT_VIEW = "project:view"
    PROJECT_CHANGE = "project:change"
    PROJECT_REMOVE = "project:remove"
    MEMBER_CHANGE = "member:change"
    TEMPLATE_CHANGE = "template:change"
    TASK_RUN = "task:run"
    TASK_STOP = "task:stop"
    RUNNER_CHANGE = "runner:change"
    CREDENTIAL_CHANGE = "credential:change"
    AUDIT_VIEW = "audit:view"


_VIEWER = frozenset({Action.PROJECT_VIEW})
_OPERATOR = _VIEWER | {Action.TASK_RUN, Action.TASK_STOP}
_MANAGER = _OPERATOR | {Action.TEMPLATE_CHANGE, Action.RUNNER_CHANGE, Action.PROJECT_CHANGE}
_MANAGER |= {Action.CREDENTIAL_CHANGE, Action.AUDIT_VIEW}
_OWNER = _MANAGER | {Action.MEMBER_CHANGE, Action.PROJECT_REMOVE}

ACTIONS_OF: dict[Role, frozenset[Action]] = {
    Role.VIEWER: _VIEWER,
    Role.OPERATOR: _OPERATOR,
    Role.MANAGER: _MANAGER,
    Role.OWNER: _OWNER,
}
