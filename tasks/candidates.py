"""The runners of a project as a waiting task sees them, and what else stands between them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from projects.words import listed
from runners.contact import BrokerTrouble
from runners.models import BrokerContact, Runner
from runners.offers import Offer, is_covered
from runners.status import RunnerStatus
from tasks.models import Leadership, Task
from tasks.sentences import ago, clock

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
    now: datetime

    @property
    def is_online(self) -> bool:
        return self.status in (RunnerStatus.IDLE, RunnerStatus.BUSY)

    @property
    def is_free(self) -> bool:
        return self.is_online and self.taken < self.runner.slots

    @property
    def taken(self) -> int:
        """How many of its slots are: by what it holds, and by what it still ends."""
        return self.held + self.runner.ending

    @property
    def why_not(self) -> str:
        """What keeps this runner from the task, beginning with the tags."""
        if self.lacking:
            return f"Lacks {listed(self.lacking)}"
        if not self.is_entitled:
            return "Refuses tasks without tags"
        if not self.is_online:
            why = self.hindrance()
            is_new = self.status == RunnerStatus.NEVER_CONTACTED
            return f"{why[0].upper()}{why[1:]}" if is_new else f"Matches, but {why}"
        if self.is_free:
            return "Free"
        if self.held < self.runner.slots:
            return f"Busy {self.endings}"
        slots = self.runner.slots
        return "Its slot is taken" if slots == 1 else f"All {slots} slots are taken"

    @property
    def endings(self) -> str:
        """`ending 1 task that was given up`: what takes slots without being held any more."""
        count = self.runner.ending
        return f"ending {count} {'task that was' if count == 1 else 'tasks that were'} given up"

    def hindrance(self) -> str:
        """Why it takes nothing, after its name: `is paused by Anna until 14:30 UTC: Update`.

        All that would have to end: who resumes a runner that is offline too waits in vain.
        """
        runner, is_paused = self.runner, self.runner.is_paused(now=self.now)
        parts = [self._silence()]
        if runner.quarantined_until and runner.is_quarantined(now=self.now):
            until = clock(runner.quarantined_until, self.now)
            why = runner.quarantine_reason.rstrip(".")
            parts.append(f"is cut off from the broker until {until}: {why}")
        elif self.status == RunnerStatus.UNHEALTHY:
            parts.append(f"cannot take tasks: {runner.trouble.rstrip('.')}")
        if runner.is_draining and self.status in (RunnerStatus.DRAINING, RunnerStatus.UNHEALTHY):
            order = runner.drain_order.rstrip(".")
            parts.append(f"is being drained by {order}" if order else "is being shut down")
            # Who cancels the drain ends the pause as well.
            is_paused = is_paused and not runner.can_be_kept
        if is_paused:
            until = f" until {clock(runner.paused_until, self.now)}" if runner.paused_until else ""
            why = runner.pause_reason.rstrip(".")
            parts.append(f"is paused by {runner.pauser}{until}: {why}")
        return ", and ".join(filter(None, parts)) or f"is {self.status.label.lower()}"

    def _silence(self) -> str:
        """That no worker of it is heard; empty if one is."""
        runner = self.runner
        if self.status == RunnerStatus.NEVER_CONTACTED:
            return "has not connected yet"
        if self.status == RunnerStatus.OFFLINE and runner.last_heartbeat_at:
            return f"is offline, last heard {ago(runner.last_heartbeat_at, self.now)}"
        # Shut down in good order while it was paused, which alarms nobody.
        is_shut_down = self.status == RunnerStatus.PAUSED and runner.is_silent(now=self.now)
        return "is shut down" if is_shut_down else ""


@dataclass(frozen=True)
class Candidates:
    """A project's runners, seen from tasks that require the same tags: those that come nearest to
    taking one first. What is told of them is told once, for however many tasks.
    """

    all: tuple[Candidate, ...]

    @cached_property
    def entitled(self) -> list[Candidate]:
        return [one for one in self.all if one.is_entitled]

    @cached_property
    def online(self) -> list[Candidate]:
        return [one for one in self.entitled if one.is_online]

    @cached_property
    def free(self) -> list[Candidate]:
        return [one for one in self.online if one.is_free]

    @property
    def nearest(self) -> tuple[Candidate, ...]:
        return self.all[:NEAREST]

    @cached_property
    def others_in_words(self) -> str:
        """`5 more lack gpu`, `1 more lacks gpu and linux`, `5 more`; empty without any."""
        others = self.all[NEAREST:]
        if not others:
            return ""
        common = set.intersection(*(set(one.lacking) for one in others))
        verb = "lacks" if len(others) == 1 else "lack"
        return f"{len(others)} more" + (f" {verb} {listed(sorted(common))}" if common else "")


class Situation:
    """One project at one moment: its runners and what they hold, read once for many tasks.

    runners: all of them as seen at a glance, each with how many tasks it holds, if somebody has
    read them at that moment.
    """

    def __init__(
        self, project_id: int, *, now: datetime, runners: Iterable[tuple[Runner, int]] | None = None
    ) -> None:
        if runners is None:
            # Without the model's ordering, for which the database would read what has ended too.
            tasks = Task.objects.filter(project_id=project_id).held().order_by()
            counts = Counter(tasks.values_list("runner_id", flat=True))
            rows = Runner.objects.present().filter(project_id=project_id).order_by()
            known = [(runner, counts[runner.pk]) for runner in rows.at_a_glance()]
            self.running = counts.total()
        else:
            known = list(runners)
            self.running = sum(held for _, held in known)
        # As pairs, not as rows of their own: a project may have hundreds of runners.
        tags: dict[int, set[str]] = defaultdict(set)
        pairs = Runner.tags.through.objects.filter(runner__project_id=project_id)
        for runner_id, name in pairs.values_list("runner_id", "tag__name"):
            tags[runner_id].add(name)
        self.now = now
        self._project_id = project_id
        self.runners = [
            (runner, held, frozenset(tags[runner.pk]))
            for runner, held in sorted(known, key=lambda pair: pair[0].name)
        ]
        self._statuses = {
            runner.pk: runner.status_at(now, running=held) for runner, held, _ in self.runners
        }
        # By the tags that are required: many tasks require the same.
        self._candidates: dict[tuple[str, ...], Candidates] = {}

    @cached_property
    def leads_until(self) -> datetime | None:
        """How long the present or last controller has the lead; None if there never was one."""
        return Leadership.objects.values_list("expires_at", flat=True).first()

    @property
    def is_led(self) -> bool:
        return self.leads_until is not None and self.leads_until > self.now

    @cached_property
    def broker_trouble(self) -> BrokerTrouble | None:
        """What keeps the controller from handing out hints; None while the broker takes them."""
        return BrokerContact.trouble()

    @cached_property
    def announced(self) -> list[int]:
        """The tasks whose hints are out, which count against a project's limit; oldest first."""
        rows = Task.objects.filter(queue__project_id=self._project_id).hinted().order_by()
        return sorted(rows.values_list("pk", flat=True))

    @cached_property
    def _unpaused(self) -> frozenset[Offer]:
        ready = (row for row in self.runners if not row[0].is_paused(now=self.now))
        return frozenset(Offer(tags, runner.takes_untagged) for runner, _, tags in ready)

    def is_served(self, required: Iterable[str]) -> bool:
        """Whether a runner may take such tasks that is not paused; it may be offline just now."""
        return is_covered(frozenset(required), self._unpaused)

    def free_slots(self, required: Iterable[str]) -> int:
        """How many such tasks could start at this moment."""
        free = self.candidates(sorted(required)).free
        return sum(one.runner.slots - one.taken for one in free)

    def candidates(self, required: Sequence[str]) -> Candidates:
        key = tuple(required)
        if key not in self._candidates:
            found = [self._candidate(*row, required) for row in self.runners]
            found.sort(key=lambda one: (len(one.lacking), not one.is_entitled, not one.is_online))
            self._candidates[key] = Candidates(tuple(found))
        return self._candidates[key]

    def _candidate(
        self, runner: Runner, held: int, tags: frozenset[str], required: Sequence[str]
    ) -> Candidate:
        lacking = tuple(name for name in required if name not in tags)
        return Candidate(
            runner=runner,
            status=self._statuses[runner.pk],
            held=held,
            tags=tags,
            lacking=lacking,
            is_entitled=Offer(tags, runner.takes_untagged).covers(frozenset(required)),
            now=self.now,
        )
