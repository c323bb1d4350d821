"""How sentences name people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from projects.characters import UNSEEN_OR_CONTROL

if TYPE_CHECKING:
    from django.contrib.auth.models import User


def name_of(user: User | None) -> str:
    """The full name, or else the user name; users can be deleted."""
    if user is None:
        return "somebody"
    return UNSEEN_OR_CONTROL.sub("", user.get_full_name()) or user.get_username()
