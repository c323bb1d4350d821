"""How sentences name people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from projects.characters import UNSEEN_OR_CONTROL

LONGEST_NAME = 150

if TYPE_CHECKING:
    from django.contrib.auth.models import User


def name_of(user: User | None) -> str:
    """The full name, or else the user name; users can be deleted. One line, not too long a one."""
    if user is None:
        return "somebody"
    seen = " ".join(UNSEEN_OR_CONTROL.sub("", user.get_full_name()).split())
    name = seen or user.get_username()
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
