"""What the admin's pages say that Django's own cannot know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import template

if TYPE_CHECKING:
    from django.db.models.options import Options

register = template.Library()

# By model: what its deletion leads to.
_LEADS_TO = {
    "runners.runner": "Its tokens open nothing any more, and its tasks end. What it did and its "
    "history stay.",
    "tasks.tasktemplate": "Nobody can run it any more. Its tasks, their logs and its history stay.",
    "projects.membership": "The person finds the project no more. What they did there stays in its "
    "history.",
    "projects.accesskey": "The secret is gone for good. It is refused while a template uses it.",
    "projects.variablegroup": "The secrets in it are gone for good. It is refused while a template "
    "uses it.",
    "auth.user": "The account signs in no more, and its API tokens open nothing. What it did stays "
    "in the history, by its name.",
    "auth.group": "Its members lose the rights in the admin that it gave them.",
}


@register.simple_tag
def deletion_leads_to(opts: Options[Any]) -> str:
    return f"{_LEADS_TO.get(opts.label_lower, '')} It cannot be undone.".strip()
