"""The broker loses every key again and again while tasks run: nobody notices."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from tests.chaos.damage import Damage
from tests.chaos.evidence import Facts
from tests.chaos.installation import Installation, installed
from tests.chaos.ledger import SCRIPT
from tests.chaos.verdict import TERMINAL, judge
from tests.deployment.client import wait_for

TASKS = 500 if os.environ.get("FORGE_LONG") else 100
PERIOD_SECONDS = 2.0


@contextmanager
def flushed_again_and_again(url: str) -> Iterator[list[int]]:
    """The answer holds how many hints each FLUSHALL took."""
    counts: list[int] = []
    over = threading.Event()

    def flush() -> None:
        with redis.Redis.from_url(url) as admin:
            while not over.wait(PERIOD_SECONDS):
                queues = admin.keys("forge:project:*:tasks*")
                counts.append(sum(int(admin.llen(queue)) for queue in queues))
                admin.flushall()

    thread = threading.Thread(target=flush)
    thread.start()
    try:
        yield counts
    finally:
        over.set()
        thread.join()


def rows_of(here: Installation, template: int) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    path = f"projects/{here.project}/tasks/?template={template}&page_size=200&before="
    before = 2**62
    while True:
        page = here.forge.api.get(f"{path}{before}")
        found.update({row["id"]: row for row in page["results"]})
        if not page["next"]:
            return found
        before = min(found)


def test_a_broker_that_is_flushed_every_two_seconds_loses_nothing(tmp_path: Path) -> None:
    with installed(tmp_path, on_postgres=False) as here:
        gate = tmp_path / "gate"
        # Behind the gate tasks wait for those that run, however slowly they are made.
        held = f"while [ ! -e {gate} ]; do sleep 0.1; done; sleep 0.8"
        script = SCRIPT.format(ledger=here.ledger, wait=held)
        template = here.forge.api.template(here.project, script)
        with flushed_again_and_again(here.forge.broker_url) as counts:
            accepted = {here.forge.api.run(here.project, template) for _ in range(TASKS)}
            wait_for(lambda: sum(counts) > 10, "hints were flushed")
            gate.touch()
            wait_for(
                lambda: all(row["state"] in TERMINAL for row in rows_of(here, template).values()),
                "every task ended",
                seconds=900,
            )
        rows = rows_of(here, template)
        complaints: list[str] = []
        facts = Facts(
            meant=TASKS,
            accepted=accepted,
            rows=rows,
            logs=here.logs_of(rows.values()),
            ledger=here.written(),
            damage=Damage(),
            passages=here.conductor.passages(rows),
        )
        score = judge(facts, complaints)
        print(f"flushed {len(counts)} times, {sum(counts)} hints gone; {score}")
        assert not complaints
        assert len(counts) > 1 and score.tasks == TASKS
