"""One trial: some tasks run, some come, one of them is held at a place, and somebody is struck."""

from __future__ import annotations

import random
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import requests

from tests.chaos.conductor import PLACES, Hold
from tests.chaos.damage import Key, Silence
from tests.chaos.evidence import Facts
from tests.chaos.harms import Harm
from tests.chaos.installation import Host, Installation
from tests.chaos.ledger import LAST_BEFORE_GATE, SCRIPT, WAIT, WAIT_APART, whole_log
from tests.chaos.verdict import TERMINAL, Score, judge
from tests.deployment.client import wait_for

# Run until their gates open, so that something runs when the blow falls.
GATED = 4
POLICIES: dict[str, dict[str, Any]] = {
    "wait": {},
    "fail": {"lost_runner_policy": "fail"},
    # May be started again, by another attempt.
    "retry": {"lost_runner_policy": "retry", "safe_to_rerun": True, "max_attempts": 20},
}
# Bash ends on TERM at once; on INT only when what it waits for does.
STEPS = [{"signal": "TERM", "grace_seconds": 30}]
HOLD_SECONDS = 60.0
END_SECONDS = 240.0


@dataclass
class Outcome:
    """counts: whether the record proves that the blow fell inside the boundary. is_beside: whether
    what it fell on is another task's than the one that stood there. facts: of the trial and of the
    one before it, if it is its repetition.
    """

    place: str
    harm: type[Harm]
    score: Score = field(default_factory=Score)
    counts: bool = False
    is_beside: bool = False
    why_not: str = ""
    complaints: list[str] = field(default_factory=list)
    facts: list[Facts] = field(default_factory=list)
    seconds: float = 0.0


class Trial:
    """`Trial(…).run()`; the installation is whole again afterwards."""

    def __init__(
        self, here: Installation, place: str, harm: type[Harm], chance: random.Random, tasks: int
    ) -> None:
        self.here = here
        self.outcome = Outcome(place, harm)
        self.chance = chance
        self.harm = harm(here, chance)
        self.tasks = tasks
        self.gate = here.gates / uuid.uuid4().hex
        self.accepted: set[int] = set()
        self.arrived: dict[Key, int] = {}
        # How many tasks each template is to have.
        self.meant: Counter[int] = Counter()

    def run(self) -> Outcome:
        began = time.monotonic()
        place = PLACES.index(self.outcome.place)
        is_gated = self.harm.keeps_gates_shut and place < PLACES.index("process exited")
        once = self._template(is_gated=is_gated)
        again = self._template(is_gated=is_gated, **POLICIES["retry"])
        running = self._start_those_that_wait()
        self.here.conductor.arm(self.outcome.place, pass_over=self.chance.randrange(3))
        with ThreadPoolExecutor(4) as people:
            others = [
                people.submit(self._run, again if number % 3 == 2 else once)
                for number in range(self.tasks - len(running))
            ]
            self.harm.gated = running
            self._strike()
            self.gate.touch()
            for other in others:
                other.result()
        self._make_up()
        self._judge()
        self.outcome.seconds = time.monotonic() - began
        return self.outcome

    def _start_those_that_wait(self) -> list[int]:
        if self.harm.outlasts_leases:
            return self._start_on_each_host(*POLICIES)
        if self.harm.leaves_children:
            return self._start_on_each_host("wait", "retry")
        gated = self._template(is_gated=True)
        return self._start([gated] * GATED)

    def _start_on_each_host(self, *policies: str) -> list[int]:
        """One of each policy on each host."""
        gated = [self._template(is_gated=True, **POLICIES[policy]) for policy in policies]
        tasks = []
        for host in self.here.hosts:
            with self.here.only(host):
                tasks += self._start(gated)
        return tasks

    def _start(self, templates: list[int]) -> list[int]:
        tasks = [self._run(template) for template in templates]
        wait_for(lambda: self._wait_at_gates(tasks), "the first tasks run")
        wait_for(lambda: self._have_told_half(tasks), "Forge has what they wrote")
        return tasks

    def _template(self, *, is_gated: bool = False, **policy: Any) -> int:
        wait = WAIT_APART if self.harm.leaves_children else WAIT
        gate = wait.format(gate=self.gate)
        script = SCRIPT.format(ledger=self.here.ledger, wait=gate if is_gated else "")
        fields = {"stop_steps": STEPS, **policy}
        made = self.here.forge.api.template(self.here.project, script, **fields)
        self.meant[made] = 0
        return made

    def _run(self, template: int) -> int:
        self.meant[template] += 1
        return self._post(template)

    def _make_up(self) -> None:
        """Ask again for what a Forge that was away has refused."""
        with suppress(AssertionError):  # what is not there counts as vanished
            wait_for(self._is_all_there, "as many tasks as were meant")

    def _is_all_there(self) -> bool:
        missing = self.meant - Counter(row["template"] for row in self._rows().values())
        for template in missing.elements():
            self._post(template)
        return not missing

    def _post(self, template: int) -> int:
        """Ask once, as a click does: whoever asks again may get two tasks."""
        forge = self.here.forge
        with suppress(requests.RequestException):
            answer = requests.post(
                f"{forge.web_url}/api/v1/projects/{self.here.project}/tasks/",
                json={"template": template},
                headers=dict(forge.api.session.headers),
                timeout=120,
            )
            if answer.status_code == requests.codes.created:
                task = int(answer.json()["id"])
                self.accepted.add(task)
                return task
        return 0

    def _wait_at_gates(self, tasks: list[int]) -> bool:
        return set(tasks) <= {task for task, _ in self.here.written().halves}

    def _have_told_half(self, tasks: list[int]) -> bool:
        stored = {row["id"]: row["log_bytes"] for row in self.here.latest_rows()}
        return all(stored[task] >= len(whole_log(task, 1, LAST_BEFORE_GATE)) for task in tasks)

    def _strike(self) -> None:
        hold = self.here.conductor.held(HOLD_SECONDS)
        if hold is None:
            self.here.conductor.disarm()
            self.outcome.why_not = "nobody came there"
            return
        if not self.harm.prepare(hold):
            self.outcome.why_not = "nobody to harm"
            self.here.conductor.release()
            return
        self.outcome.is_beside = self.harm.is_beside
        self.arrived = {
            (row["id"], row["attempt"]): row["log_bytes"] for row in self._rows().values()
        }
        since = time.monotonic()
        self.harm.strike(hold)
        self._note_proof(hold, time.monotonic())
        self.here.conductor.release()
        self.harm.mend()
        self._note_silences(since)

    def _note_silences(self, since: float) -> None:
        """They last until Forge has heard their runners again."""
        mended = datetime.now(UTC)
        for host in self.harm.silenced():
            until = wait_for(partial(self._heard, host, mended), "the runner is heard")
            self.harm.damage.silences.append(Silence(host.worker.runner.id, since, until))

    def _heard(self, host: Host, mended: datetime) -> float:
        """When Forge heard it, by `time.monotonic()`; 0 if that was before `mended`."""
        heard = self.here.last_heard(host)
        ago = (datetime.now(UTC) - heard).total_seconds()
        return time.monotonic() - ago if heard > mended else 0.0

    def _note_proof(self, hold: Hold, at: float) -> None:
        self.outcome.counts = self.here.conductor.is_proven(hold, at)
        if not self.outcome.counts:
            self.outcome.why_not = "the record does not show it"

    # --- afterwards ---

    def _rows(self) -> dict[int, dict[str, Any]]:
        return self.here.rows_of(self.meant)

    def _all_ended(self) -> bool:
        rows = self._rows().values()
        return all(row["state"] in TERMINAL for row in rows)

    def _judge(self) -> None:
        with suppress(AssertionError):  # what has not ended by now counts as vanished
            wait_for(self._all_ended, "every task ended", seconds=END_SECONDS)
        rows = self._rows()
        facts = Facts(
            meant=self.meant.total(),
            accepted=self.accepted,
            rows=rows,
            logs=self.here.logs_of(rows.values()),
            ledger=self.here.written().of(rows),
            damage=self.harm.damage,
            passages=self.here.conductor.passages(rows),
            arrived=self.arrived,
            names={host.worker.runner.id: host.name for host in self.here.hosts},
        )
        self.outcome.facts.append(facts)
        self.outcome.score = judge(facts, self.outcome.complaints)
