"""Tasks as rows of a table: badge, second line, how long it took and waited."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from projects.words import counted
from tasks.candidates import Situation
from tasks.lifecycle import TaskState
from tasks.line import MAXIMUM_COUNTED, Line, lines_of
from tasks.models import Task
from tasks.waiting import explain

if TYPE_CHECKING:
    from tasks.querysets import TaskQuerySet

_WAITS = (TaskState.QUEUED, TaskState.AWAITING_APPROVAL)


@dataclass(frozen=True)
class TaskRow:
    task: Task
    note: str
    line: Line | None = None
    group: str = ""

    @property
    def place(self) -> str:
        """Its place among those that need the same: `4`, or `over 1,000`; a dash without one."""
        if self.line is None:
            return "–"
        ahead = self.line.ahead
        return f"over {MAXIMUM_COUNTED:,}" if ahead > MAXIMUM_COUNTED else f"{ahead + 1:,}"

    @property
    def needs(self) -> list[str]:
        """The tags that its runner must have."""
        return sorted(self.task.queue.required_tags)

    @property
    def took(self) -> timedelta | None:
        """How long a finished task ran."""
        task = self.task
        if task.started_at is None or task.finished_at is None:
            return None
        return task.finished_at - task.started_at

    @property
    def runs_since(self) -> datetime | None:
        return None if self.task.is_finished else self.task.started_at

    @property
    def waited(self) -> timedelta | None:
        """Of its present attempt: how long an earlier one ran is no wait."""
        claimed = self.task.claimed_at
        return claimed - self.task.queued_at if claimed else None

    @property
    def waits_since(self) -> datetime | None:
        return self.task.queued_at if self.task.state in _WAITS else None


def for_rows(tasks: TaskQuerySet) -> TaskQuerySet:
    """With what rows show, without the scripts, which are long."""
    rows = tasks.select_related("template", "runner", "created_by", "queue", "project")
    return rows.without_scripts("template")


def grouped(rows: list[TaskRow], active: set[int]) -> list[TaskRow]:
    """Those whose numbers are `active` first; without headings where all are of one kind."""
    first = [row for row in rows if row.task.pk in active]
    others = [row for row in rows if row.task.pk not in active]
    if not first or not others:
        return rows
    named = (("Active", first), ("Finished", others))
    return [replace(row, group=name) for name, group in named for row in group]


def rows_of(
    tasks: Iterable[Task],
    *,
    now: datetime,
    situation_of: Callable[[int], Situation] | None = None,
) -> list[TaskRow]:
    """situation_of: how a project, by its number, stands, where its runners are read already."""
    rows = list(tasks)
    queued = [task for task in rows if task.state == TaskState.QUEUED]
    projects = {task.project_id for task in queued}
    look = situation_of or partial(Situation, now=now)
    situations = {project: look(project) for project in sorted(projects)}
    lines = lines_of(queued) if queued else {}
    return [
        TaskRow(task, _note(task, situations.get(task.project_id), line, now), line)
        for task, line in ((task, lines.get(task.pk)) for task in rows)
    ]


def _note(task: Task, situation: Situation | None, line: Line | None, now: datetime) -> str:
    """The line under the name: the reason of the state, or else what the template does."""
    if task.state in _WAITS:
        waiting = explain(task, now, situation, line)
        return waiting.sentence if waiting else ""
    if task.state == TaskState.STOPPING:
        return task.stop_reason
    if task.state == TaskState.UNREACHABLE:
        return f"{task.runner} is silent; it may come back"
    if task.state in (TaskState.FAILED, TaskState.STOPPED, TaskState.LOST):
        return task.reason
    return task.template.description


def tasks_sentence(states: Sequence[tuple[str, int]]) -> str:
    """`5 running, 7 queued, 1 unreachable`, of (state, how many); finished ones are left out."""
    words = {state.value: state.label.lower() for state in TaskState}
    parts = [f"{count:,} {words[state]}" for state, count in states if count]
    return f"{', '.join(parts)}." if parts else "Nothing runs and nothing waits."


def newer_in_words(count: int, maximum: int) -> str:
    """`1 newer task`, `more than 99 newer tasks`; empty if there is none."""
    if count > maximum:
        return f"more than {maximum:,} newer tasks"
    return counted(count, "newer task") if count else ""
