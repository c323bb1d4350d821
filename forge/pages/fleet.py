"""A project's runners as its pages show them: status, reason, what they hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from django.db.models import OuterRef, Subquery

from forge.lists.runner_filters import GROUPS, ORDER, group_of, is_new
from forge.pages.charts import Sparkline, sparkline
from projects.people import name_of
from projects.words import about, counted, listed, number
from runners.models import Runner, RunnerQuerySet
from runners.status import RunnerStatus
from tasks.lifecycle import TaskState
from tasks.models import Task

if TYPE_CHECKING:
    from projects.models import Project
    from tasks.querysets import TaskQuerySet

MAXIMUM_NAMED_TASKS = 4


class Held(NamedTuple):
    """A task that a runner holds, without what nobody asks of it here."""

    pk: int
    state: str
    runner_id: int


@dataclass(frozen=True)
class RunnerRow:
    runner: Runner
    status: RunnerStatus
    held: tuple[Held, ...]
    last_task_id: int | None
    now: datetime
    load: Sparkline | None = None

    @property
    def group(self) -> str:
        """The word of its group in lists; empty if it is in none."""
        return group_of(self.status, is_new=is_new(self.runner, now=self.now))

    def is_of(self, word: str) -> bool:
        """Whether it is of the group or status that was asked for; nothing asked for is any."""
        return not word or word == (self.group if word in GROUPS else self.status)

    @property
    def is_in_trouble(self) -> bool:
        return self.group == "trouble"

    @property
    def is_online(self) -> bool:
        return self.status in (RunnerStatus.IDLE, RunnerStatus.BUSY)

    @property
    def is_paused(self) -> bool:
        return self.runner.is_paused(now=self.now)

    @property
    def is_heard(self) -> bool:
        """Whether what it holds runs, as far as anybody knows."""
        heard = (RunnerStatus.DRAINING, RunnerStatus.PAUSED, RunnerStatus.UNHEALTHY)
        is_silent = self.runner.is_silent(now=self.now)
        return not is_silent and (self.is_online or self.status in heard)

    @property
    def pips(self) -> str:
        """How its taken slots look: grey where nobody knows what runs, and what leaves."""
        return "on" if self.is_heard and self.status != RunnerStatus.DRAINING else "hold"

    @property
    def is_drainable(self) -> bool:
        """Whether a worker is there that was not told to end yet."""
        return not (
            self.runner.is_draining or self.runner.removed_at
        ) and not self.runner.is_silent(now=self.now)

    @property
    def can_be_kept(self) -> bool:
        """Whether its drain can be taken back: its worker is told when its tasks have ended."""
        return self.runner.can_be_kept and not self.runner.removed_at

    @property
    def free(self) -> int:
        taken = len(self.held) + self.runner.ending
        return max(self.runner.slots - taken, 0) if self.is_online else 0

    @property
    def edge(self) -> str:
        """The coloured edge of a row on which somebody must act."""
        if self.status in (RunnerStatus.OFFLINE, RunnerStatus.UNHEALTHY):
            return "edge"
        return "edge w" if self.status == RunnerStatus.NEVER_CONTACTED else ""

    @property
    def label(self) -> str:
        if self.status == RunnerStatus.REVOKED:
            return "Removed"
        return f"Offline {self.silent_for}" if self.silent_for else self.status.label

    @property
    def silent_for(self) -> str:
        """How long it has not been heard: `12 min`; empty while it is, and before it ever was."""
        heard = self.runner.last_heartbeat_at
        if heard is None or self.status != RunnerStatus.OFFLINE:
            return ""
        return about((self.now - heard).total_seconds())

    @property
    def quarantine_left(self) -> str:
        """How much longer the broker is kept from it: `4 min`; empty if it is not."""
        until = self.runner.quarantined_until
        if until is None or not self.runner.is_quarantined(now=self.now):
            return ""
        return about((until - self.now).total_seconds())

    @property
    def pause_left(self) -> str:
        """How much longer it is paused: `4 h`; empty if it is not, or until somebody resumes it."""
        until = self.runner.paused_until
        if until is None or not self.is_paused:
            return ""
        return about((until - self.now).total_seconds())

    @property
    def reason(self) -> str:
        if self.status == RunnerStatus.REVOKED:
            return "Its tokens open nothing. What it did and its history stay"
        if self.status == RunnerStatus.UNHEALTHY:
            return self._illness()
        if self.is_paused and self.status != RunnerStatus.DRAINING:
            return self._pause_in_words()
        if self.status == RunnerStatus.NEVER_CONTACTED:
            age = about((self.now - self.runner.created_at).total_seconds())
            by = self.runner.created_by
            name = f" by {name_of(by)}" if by else ""
            return f"Added {age} ago{name}"
        if self.status == RunnerStatus.DRAINING:
            what = f"lets {self._named()} finish" if self.held else "hands over what it has"
            order = self.runner.drain_order
            return f"Drained by {order}; {what}" if order else f"Its worker was told to end; {what}"
        if self.held:
            return f"{self._what_it_does()} {self._named()}{self._endings('; ending')}"
        if self.runner.ending and self.is_online:
            return self._endings("Ending")
        if self.status == RunnerStatus.OFFLINE and not self.runner.session:
            return "Its worker was shut down"
        if self.last_task_id:
            return f"Last task #{self.last_task_id}"
        return "No task yet"

    @property
    def trouble(self) -> str:
        """What its worker says keeps it from taking tasks; empty for one that is not heard."""
        return self.runner.trouble if self.status == RunnerStatus.UNHEALTHY else ""

    def _illness(self) -> str:
        if left := self.quarantine_left:
            return f"Cut off from the broker for {left} more"
        held = f"; running {self._named()}" if self.held else ""
        return f"Cannot take tasks: {self.runner.trouble}{held}"

    def _pause_in_words(self) -> str:
        left = f" for {self.pause_left} more" if self.pause_left else ""
        held = f"; running {self._named()}" if self.held else ""
        said = f"Paused by {self.runner.pauser}{left}: {self.runner.pause_reason}{held}"
        has_ended = self.status == RunnerStatus.PAUSED and not self.runner.session
        return f"{said}; its worker was shut down" if has_ended else said

    def _endings(self, word: str) -> str:
        """What takes its slots without being held; empty if nothing does, as far as is known."""
        count = self.runner.ending if self.is_online else 0
        return (
            f"{word} {counted(count, 'task that was', 'tasks that were')} given up" if count else ""
        )

    def _what_it_does(self) -> str:
        if self.status != RunnerStatus.OFFLINE:
            return "Running"
        return "Out of reach:" if self._has_unreachable() else "Was running"

    def _has_unreachable(self) -> bool:
        return any(task.state == TaskState.UNREACHABLE for task in self.held)

    def _named(self) -> str:
        names = [f"#{task.pk}" for task in self.held[:MAXIMUM_NAMED_TASKS]]
        rest = len(self.held) - len(names)
        return f"{', '.join(names)} and {rest} more" if rest else ", ".join(names)


def rows_of(project: Project, *, now: datetime) -> list[RunnerRow]:
    """All runners of the project, trouble first: enough to count them and to choose from them."""
    held: dict[int | None, list[Held]] = defaultdict(list)
    for task in _by_number(Task.objects.filter(project=project).held()):
        held[task.runner_id].append(task)
    runners = Runner.objects.present().filter(project=project).at_a_glance().order_by()
    return sorted(
        (_row(one, held[one.pk], now) for one in runners),
        key=lambda row: (ORDER.index(row.status), row.runner.name),
    )


def shown(
    rows: Sequence[RunnerRow], *, now: datetime, load: Mapping[int, Sequence[int]] | None = None
) -> list[RunnerRow]:
    """The same rows in the same order, with all that a page shows of them.

    `load` has what `charts.last_hour` says; without it they have no sparkline.
    """
    full = {
        one.pk: one
        for one in _with_last_task(Runner.objects.filter(pk__in=[row.runner.pk for row in rows]))
    }
    return [
        _row(full[row.runner.pk], row.held, now, _load_of(row, load))
        for row in rows
        if row.runner.pk in full
    ]


def _load_of(row: RunnerRow, load: Mapping[int, Sequence[int]] | None) -> Sequence[int] | None:
    """Nothing for whoever shows none; a flat line for a runner that held nothing."""
    return None if load is None else load.get(row.runner.pk, ())


def row_of(
    runner: Runner, *, now: datetime, load: Mapping[int, Sequence[int]] | None = None
) -> RunnerRow:
    (found,) = _with_last_task(Runner.objects.filter(pk=runner.pk))
    held = _by_number(Task.objects.held_by(runner))
    return _row(found, held, now, None if load is None else load.get(runner.pk, ()))


def rows_among(runners: RunnerQuerySet, *, now: datetime) -> list[RunnerRow]:
    """Of any projects, in the order of their names, trouble first; without their load."""
    found = list(_with_last_task(runners).select_related("created_by", "project"))
    held: dict[int | None, list[Held]] = defaultdict(list)
    for task in _by_number(Task.objects.held().filter(runner__in=[one.pk for one in found])):
        held[task.runner_id].append(task)
    rows = (_row(one, held[one.pk], now) for one in found)
    return sorted(rows, key=lambda row: (ORDER.index(row.status), row.runner.name))


def _by_number(tasks: TaskQuerySet) -> list[Held]:
    """Sorted here: for an ORDER BY the database would read all finished tasks too."""
    return sorted(Held(*row) for row in tasks.order_by().values_list("pk", "state", "runner_id"))


def _with_last_task(runners: RunnerQuerySet) -> RunnerQuerySet:
    last = Task.objects.filter(runner=OuterRef("pk")).order_by("-pk").values("pk")[:1]
    rows = runners.select_related("created_by", "paused_by").prefetch_related("tags")
    return rows.annotate(last_task_id=Subquery(last))


def _row(
    runner: Runner, held: Sequence[Held], now: datetime, load: Sequence[int] | None = None
) -> RunnerRow:
    return RunnerRow(
        runner=runner,
        status=runner.status_at(now, running=len(held)),
        held=tuple(held),
        last_task_id=getattr(runner, "last_task_id", None),
        now=now,
        load=sparkline(runner, load, now=now) if load is not None else None,
    )


def fleet_sentence(rows: Sequence[RunnerRow]) -> str:
    """`3 of 8 are ready for tasks. 4 need attention.`

    Ready is whoever the filter beside it counts so: connected, and in service.
    """
    if not rows:
        return "A runner is a host that carries out this project's tasks."
    ready = sum(1 for row in rows if row.is_online)
    trouble = [row for row in rows if row.is_in_trouble]
    busy = sum(1 for row in rows if row.is_online and not row.free)
    out = [(RunnerStatus.PAUSED, "paused"), (RunnerStatus.DRAINING, "being drained")]
    sentence = f"{ready} of {len(rows)} {'is' if ready == 1 else 'are'} ready for tasks."
    if busy:
        sentence += f" {number(busy)} of them {'has' if busy == 1 else 'have'} no free slot."
    if trouble:
        sentence += f" {number(len(trouble))} need{'s' if len(trouble) == 1 else ''} attention."
    for status, word in out:
        if count := sum(1 for row in rows if row.status == status):
            sentence += f" {number(count)} {'is' if count == 1 else 'are'} {word}."
    return sentence


def trouble_in_words(rows: Sequence[RunnerRow]) -> str:
    offline = sum(1 for row in rows if row.status == RunnerStatus.OFFLINE)
    silent = [row for row in rows if row.status == RunnerStatus.NEVER_CONTACTED]
    missed = sum(1 for row in silent if row.is_in_trouble)
    unhealthy = sum(1 for row in rows if row.status == RunnerStatus.UNHEALTHY)
    parts = [f"{unhealthy} unhealthy"] if unhealthy else []
    parts += [f"{offline} offline"] if offline else []
    parts += [f"{missed} never contacted"] if missed else []
    parts += [f"{len(silent) - missed} just added"] if len(silent) > missed else []
    return listed(parts) or "all are heard"


def slots_in_words(rows: Sequence[RunnerRow]) -> str:
    out = sum(row.runner.slots for row in rows if not row.is_online)
    return f"{counted(out, 'more is', 'more are')} out of service" if out else "all are in service"
