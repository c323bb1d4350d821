"""Who may speak of what in events: which nodes and which tasks are a project's.

Answers come from memory for as long as they can; what is unknown is asked for with one query for
a whole batch of events.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import TypeVar

from runners.models import Runner
from tasks.models import Task

Key = TypeVar("Key")
Value = TypeVar("Value")
Attempt = tuple[int, int]

NODES_SECONDS = 5.0
# How soon names are read again when an unknown one speaks: a new runner's first events count.
UNKNOWN_NODE_SECONDS = 1.0
MAXIMUM_TASKS = 20_000
# An attempt that is not there will not be there a moment later: its row is committed before its
# hint goes out. All the same it is asked for again after this long.
ABSENT_SECONDS = 5.0
# Of one project, in one batch: what is above stays unknown. Nobody crowds out the others.
MAXIMUM_UNKNOWN = 100
IDS_IN_A_QUERY = 500


class Nodes:
    """Node names of the runners that were not removed, by project."""

    def __init__(self) -> None:
        self._names: dict[int, frozenset[str]] = {}
        self._read_at = -NODES_SECONDS

    def know(self, project_id: int, node: str) -> bool:
        """Whether `node` is a runner of the project. Raises django.db.Error."""
        age = time.monotonic() - self._read_at
        if age > NODES_SECONDS or (age > UNKNOWN_NODE_SECONDS and not self._has(project_id, node)):
            self._read()
        return self._has(project_id, node)

    def _has(self, project_id: int, node: str) -> bool:
        return node in self._names.get(project_id, ())

    def _read(self) -> None:
        found: dict[int, set[str]] = {}
        for runner in Runner.objects.present().only("pk", "project_id", "name"):
            found.setdefault(runner.project_id, set()).add(runner.node_name)
        self._names = {project: frozenset(names) for project, names in found.items()}
        self._read_at = time.monotonic()


class TaskOwners:
    """Project and newest attempt of the tasks that were asked about; the oldest are forgotten."""

    def __init__(self) -> None:
        self._known: OrderedDict[int, tuple[int, int]] = OrderedDict()
        # Until when an attempt is believed not to be there.
        self._absent: OrderedDict[Attempt, float] = OrderedDict()

    def learn(self, mentioned: Mapping[int, Iterable[Attempt]]) -> bool:
        """Look up the attempts, by the project that mentions them, that are not known yet.

        Returns whether the database was asked. Raises django.db.Error.
        """
        now = time.monotonic()
        news: set[Attempt] = set()
        for attempts in mentioned.values():
            unknown = sorted(one for one in attempts if self._is_news(one, now))
            news.update(unknown[-MAXIMUM_UNKNOWN:])
        self._look_up(sorted({task for task, _ in news}))
        for attempt in news:
            if not self._is_known(attempt):
                _put(self._absent, attempt, now + ABSENT_SECONDS)
        return bool(news)

    def know(self, project_id: int, attempt: Attempt) -> bool:
        """Whether the attempt is of a task of the project, as far as `learn` found out."""
        return self._is_known(attempt) and self._known[attempt[0]][0] == project_id

    def _look_up(self, tasks: list[int]) -> None:
        for start in range(0, len(tasks), IDS_IN_A_QUERY):
            rows = Task.objects.filter(pk__in=tasks[start : start + IDS_IN_A_QUERY])
            for task, project, attempt in rows.values_list("pk", "project_id", "attempt"):
                _put(self._known, task, (project, attempt))

    def _is_news(self, attempt: Attempt, now: float) -> bool:
        return not self._is_known(attempt) and self._absent.get(attempt, 0.0) <= now

    def _is_known(self, attempt: Attempt) -> bool:
        task, number = attempt
        return task in self._known and number <= self._known[task][1]


def _put(cache: OrderedDict[Key, Value], key: Key, value: Value) -> None:
    cache[key] = value
    cache.move_to_end(key)
    while len(cache) > MAXIMUM_TASKS:
        cache.popitem(last=False)
