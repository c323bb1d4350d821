"""All of it in order."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from django.db import connection

from forge.sample import fleet, history, places
from forge.sample.scene import Amounts, Scene
from projects.models import Project

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime


def has_data() -> bool:
    return Project.objects.exists()


def make(
    amounts: Amounts, *, seed: int, now: datetime, tell: Callable[[str], object] = lambda _: None
) -> None:
    """Adds the data; `tell` hears how far it is. Not one transaction: it may be a million rows."""
    mark = f" {Project.objects.count()}" if has_data() else ""
    # With other dice beside other data: digests are unique.
    scene = Scene(Random(f"{seed}{mark}"), now, mark, tell)
    users = places.people(scene, amounts.projects)
    found = places.projects(scene, amounts.projects)
    places.members(scene, found, users)
    places.tokens(scene, users)
    places.sources(scene, found)
    tell(f"{len(found):,} projects with {len(users):,} people")
    fleet.runners(scene, found, amounts.runners)
    fleet.templates(scene, found, fleet.tags(scene, found))
    fleet.registration_tokens(scene, found)
    tell(f"{amounts.runners:,} runners")
    history.write(scene, found, amounts.tasks)
    _count_rows()


def _count_rows() -> None:
    """Let the database know how much there is now, or it plans for empty tables."""
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
