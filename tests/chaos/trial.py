"""One trial: some tasks run, some come, one of them is held at a place, and somebody is struck."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import requests

from tests.chaos.conductor import Hold
from tests.chaos.harms import Harm
from tests.chaos.installation import Installation
from tests.chaos.verdict import SCRIPT, TERMINAL, Facts, Score, judge
from tests.deployment.client import wait_for

# Run until their gates open, so that something runs when the blow falls.
GATED = 4
# May be started again, by another attempt.
RETRIED: dict[str, Any] = {"lost_runner_policy": "retry", "safe_to_rerun": True, "max_attempts": 20}
HOLD_SECONDS = 60.0
END_SECONDS = 240.0


@dataclass
class Outcome:
    """counts: whether the record proves that the blow fell inside the boundary."""

    place: str
    harm: type[Harm]
    score: Score = field(default_factory=Score)
    counts: bool = False
    why_not: str = ""
    complaints: list[str] = field(default_factory=list)
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
        self.accepted: set[int] = set()

    def run(self) -> Outcome:
        began = time.monotonic()
        gate = f"while [ ! -e {self.here.gates}/$FORGE_TASK_ID ]; do sleep 0.05; done"
        gated, once, again = self._template(gate), self._template(), self._template(**RETRIED)
        self.again = again
        self.templates = (gated, once, again)
        running = [self._post(gated) for _ in range(GATED)]
        wait_for(lambda: self._have_started(running), "the first tasks run")
        self.here.conductor.arm(self.outcome.place, pass_over=self.chance.randrange(3))
        with ThreadPoolExecutor(GATED) as people:
            others = [
                people.submit(self._post, again if number % 3 == 2 else once)
                for number in range(self.tasks - GATED)
            ]
            self._strike()
            for task in running:
                (self.here.gates / str(task)).touch()
            for other in others:
                other.result()
        self._judge()
        self.outcome.seconds = time.monotonic() - began
        return self.outcome

    def _template(self, wait: str = "", **policy: Any) -> int:
        script = SCRIPT.format(ledger=self.here.ledger, wait=wait)
        return self.here.forge.api.template(self.here.project, script, **policy)

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

    def _have_started(self, tasks: list[int]) -> bool:
        return set(tasks) <= {task for task, _, _ in self.here.starts()}

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
        self.harm.strike(hold)
        self._note_proof(hold, time.monotonic())
        self.here.conductor.release()
        self.harm.mend()

    def _note_proof(self, hold: Hold, at: float) -> None:
        self.outcome.counts = self.here.conductor.is_proven(hold, at)
        if not self.outcome.counts:
            self.outcome.why_not = "the record does not show it"

    # --- afterwards ---

    def _rows(self) -> dict[int, dict[str, Any]]:
        found = {}
        for template in self.templates:
            path = f"projects/{self.here.project}/tasks/?template={template}&page_size=200"
            found.update({row["id"]: row for row in self.here.forge.api.get(path)["results"]})
        return found

    def _all_ended(self) -> bool:
        rows = self._rows().values()
        return all(row["state"] in TERMINAL for row in rows)

    def _judge(self) -> None:
        with suppress(AssertionError):  # what has not ended by now counts as vanished
            wait_for(self._all_ended, "every task ended", seconds=END_SECONDS)
        rows = self._rows()
        facts = Facts(
            accepted=self.accepted,
            rows=rows,
            logs={task: self.here.forge.api.log(task) for task in rows},
            starts=[start for start in self.here.starts() if start[0] in rows],
            ends=self.here.ends(),
            damage=self.harm.damage,
            retried={task for task, row in rows.items() if row["template"] == self.again},
        )
        self.outcome.score = judge(facts, self.outcome.complaints)
