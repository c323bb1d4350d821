"""Why a queued task has not started: the sentence, the checks behind it, the nearest runners.

Everything is computed from the rows, in the order in which the publisher and the claim decide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from runners.models import Runner
from runners.status import RunnerStatus
from tasks.lifecycle import TaskState
from tasks.models import Task

NEAREST = 4


@dataclass(frozen=True)
class Candidate:
    """One runner, seen from a task that waits."""

    runner: Runner
    status: RunnerStatus
    held: int
    tags: frozenset[str]
    lacking: tuple[str, ...]
    is_entitled: bool

    @property
    def is_online(self) -> bool:
        return self.status in (RunnerStatus.IDLE, RunnerStatus.BUSY)

    @property
    def is_free(self) -> bool:
        return self.is_online and self.held < self.runner.concurrency

    @property
    def why_not(self) -> str:
        """What keeps this runner from the task, beginning with the tags."""
        if self.lacking:
            return f"Lacks {_listed(self.lacking)}"
        if not self.is_entitled:
            return "Refuses tasks without tags"
        if self.status == RunnerStatus.NEVER_CONTACTED:
            return "Has not connected yet"
        if self.status == RunnerStatus.UNHEALTHY:
            return "Matches, but is cut off from the broker"
        if self.status == RunnerStatus.DRAINING:
            return "Matches, but is being shut down"
        if not self.is_online:
            return "Matches, but is offline"
        return "Free" if self.is_free else f"All {self.runner.concurrency} slots are taken"


@dataclass(frozen=True)
class Check:
    name: str
    is_met: bool
    text: str


@dataclass(frozen=True)
class Waiting:
    sentence: str
    checks: tuple[Check, ...]
    nearest: tuple[Candidate, ...]

    @property
    def is_hindered(self) -> bool:
        """Whether something must happen first; otherwise it starts in a moment."""
        return any(not check.is_met for check in self.checks)


class Situation:
    """One project at one moment: its runners and what they hold, read once for many tasks."""

    def __init__(self, project_id: int, *, now: datetime) -> None:
        # Without the model's ordering, for which the database would read all finished tasks too.
        held = Task.objects.filter(project_id=project_id).held().order_by()
        counts = Counter(held.values_list("runner_id", flat=True))
        runners = Runner.objects.present().filter(project_id=project_id)
        self.now = now
        self.runners = [
            (runner, counts[runner.pk], frozenset(tag.name for tag in runner.tags.all()))
            for runner in runners.prefetch_related("tags")
        ]
        self.running = counts.total()

    def candidates(self, required: Sequence[str]) -> list[Candidate]:
        """All runners, those that come nearest to taking the task first."""
        found = [self._candidate(*row, required) for row in self.runners]
        return sorted(
            found, key=lambda one: (len(one.lacking), not one.is_entitled, not one.is_online)
        )

    def _candidate(
        self, runner: Runner, held: int, tags: frozenset[str], required: Sequence[str]
    ) -> Candidate:
        lacking = tuple(name for name in required if name not in tags)
        return Candidate(
            runner=runner,
            status=runner.status_at(self.now, running=held),
            held=held,
            tags=tags,
            lacking=lacking,
            is_entitled=not lacking and (bool(required) or runner.takes_untagged),
        )


def why_waiting(task: Task, now: datetime) -> str:
    """One sentence, or nothing when the task does not wait."""
    waiting = explain(task, now)
    return waiting.sentence if waiting else ""


def explain(task: Task, now: datetime, situation: Situation | None = None) -> Waiting | None:
    """What a queued task waits for; None when it does not wait."""
    if task.state == TaskState.AWAITING_APPROVAL:
        return Waiting("It waits until somebody approves it.", (), ())
    if task.state != TaskState.QUEUED:
        return None
    situation = situation or Situation(task.project_id, now=now)
    required = sorted(task.queue.required_tags)
    candidates = situation.candidates(required)
    place = _place(task)
    checks = (
        _check_template(task),
        _check_limit(task, situation),
        _check_runner(required, candidates, place),
    )
    hindrance = next((check.text for check in checks if not check.is_met), None)
    line = Check("Place in line", is_met=True, text=f"{_ordinal(place)} for the same tags")
    return Waiting(
        sentence=hindrance or _about_to_start(candidates, place),
        checks=(*checks, line),
        nearest=tuple(candidates[:NEAREST]),
    )


def _check_template(task: Task) -> Check:
    if not task.is_exclusive:
        return Check("Template", is_met=True, text="Allows several runs at once")
    rivals = Task.objects.filter(template_id=task.template_id).exclude(pk=task.pk)
    holder = rivals.held().first()
    if holder is not None:
        text = f"#{holder.pk} of this template is {_word(holder)}, and it allows one run at a time."
        return Check("Template", is_met=False, text=text)
    earlier = rivals.filter(state=TaskState.QUEUED, pk__lt=task.pk).last()
    if earlier is not None:
        text = f"#{earlier.pk} of this template comes first, and it allows one run at a time."
        return Check("Template", is_met=False, text=text)
    return Check("Template", is_met=True, text="Allows one run at a time, none is running")


def _word(task: Task) -> str:
    return TaskState(task.state).label.lower()


def _check_limit(task: Task, situation: Situation) -> Check:
    limit = task.project.max_parallel_tasks
    running = situation.running
    if not limit:
        return Check("Project limit", is_met=True, text=f"None; {running} running")
    if running >= limit:
        text = f"The project runs {running} of at most {limit} at once."
        return Check("Project limit", is_met=False, text=text)
    return Check("Project limit", is_met=True, text=f"{running} of {limit} running")


def _check_runner(required: Sequence[str], candidates: Sequence[Candidate], place: int) -> Check:
    entitled = [one for one in candidates if one.is_entitled]
    online = [one for one in entitled if one.is_online]
    free = [one for one in online if one.is_free]
    if free:
        text = f"{len(free)} of {len(candidates)} can take it now"
        return Check("Runner", is_met=True, text=text)
    if online:
        return Check("Runner", is_met=False, text=_all_busy(online, place))
    if entitled:
        return Check("Runner", is_met=False, text=_none_online(required, entitled))
    return Check("Runner", is_met=False, text=_none_entitled(required, candidates))


def _none_entitled(required: Sequence[str], candidates: Sequence[Candidate]) -> str:
    if not candidates:
        return "This project has no runners yet."
    if not required:
        return "No runner takes tasks without tags."
    return f"No runner has {_tags(required)}."


def _none_online(required: Sequence[str], entitled: Sequence[Candidate]) -> str:
    if len(entitled) == 1:
        only = entitled[0]
        if only.status == RunnerStatus.NEVER_CONTACTED:
            return f"{only.runner}, the only runner that may take it, has not connected yet."
        if only.status == RunnerStatus.UNHEALTHY:
            return f"{only.runner}, the only runner that may take it, is cut off from the broker."
        if only.status == RunnerStatus.DRAINING:
            return f"{only.runner}, the only runner that may take it, is being shut down."
        return f"{only.runner}, the only runner that may take it, is offline."
    if not required:
        return "No runner that takes tasks without tags is online."
    return f"No online runner has {_tags(required)}."


def _all_busy(online: Sequence[Candidate], place: int) -> str:
    if len(online) == 1:
        return f"{online[0].runner}, the only runner for it, is busy; {_ordinal(place)}."
    return f"All {len(online)} runners for it are busy; {_ordinal(place)}."


def _about_to_start(candidates: Sequence[Candidate], place: int) -> str:
    free = next(one for one in candidates if one.is_entitled and one.is_free)
    if place > 1:
        return f"{free.runner} is free; {_ordinal(place)}."
    return f"{free.runner} is free and takes it in a moment."


def _place(task: Task) -> int:
    ahead = Task.objects.filter(queue_id=task.queue_id, state=TaskState.QUEUED, pk__lt=task.pk)
    return ahead.count() + 1


def _tags(names: Sequence[str]) -> str:
    return f"the {'tag' if len(names) == 1 else 'tags'} {_listed(names)}"


def _listed(names: Sequence[str]) -> str:
    if len(names) == 1:
        return names[0]
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _ordinal(place: int) -> str:
    """`4th in line`."""
    teen = 10 <= place % 100 <= 20
    ending = "th" if teen else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place}{ending} in line"
