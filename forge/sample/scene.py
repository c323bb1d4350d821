"""What the sample data is made of while it is made, and how rows go in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from random import Random
from typing import TYPE_CHECKING, TypeVar

from django.db.models import Model

from runners.models import Runner
from tasks.models import TaskTemplate

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from projects.models import Project

BATCH_ROWS = 2000
HISTORY = timedelta(days=90)

Row = TypeVar("Row", bound=Model)


@dataclass(frozen=True)
class Amounts:
    """How many of the three that everything else follows from."""

    projects: int
    runners: int
    tasks: int


@dataclass(eq=False)
class Place:
    """One project with what its tasks are made of."""

    project: Project
    members: list[User] = field(default_factory=list)
    runners: list[Runner] = field(default_factory=list)
    # Which tags a runner has, by its number.
    tags: dict[int, frozenset[str]] = field(default_factory=dict)
    templates: list[TaskTemplate] = field(default_factory=list)
    # The runners that may take a template's tasks, by the template's number.
    able: dict[int, list[Runner]] = field(default_factory=dict)


@dataclass
class Scene:
    """The dice are seeded, so that the same numbers give the same data."""

    dice: Random
    now: datetime
    # Ends names that must be unique, where there is data already.
    mark: str
    tell: Callable[[str], object]

    @property
    def begin(self) -> datetime:
        return self.now - HISTORY

    def digest(self) -> str:
        """As of a token that nobody has."""
        return hashlib.sha256(self.dice.randbytes(32)).hexdigest()

    def earlier(self) -> datetime:
        """Some moment before the first task."""
        return self.begin - timedelta(seconds=self.dice.uniform(0, 200 * 86400))


def insert(kind: type[Row], rows: Iterable[Row]) -> list[Row]:
    """All of them, with their numbers; few enough to be held in memory."""
    return kind._default_manager.bulk_create(rows, batch_size=BATCH_ROWS)


def batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Lists of BATCH_ROWS, so that a million rows are never in memory at once."""
    source = iter(rows)
    while batch := list(islice(source, BATCH_ROWS)):
        yield batch


def by_weight(count: int) -> list[float]:
    """Few are large and most are small: the n-th has an n-th of what the first has."""
    return [1 / place for place in range(1, count + 1)]
