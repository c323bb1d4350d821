"""Every boundary and every harm once; `make chaos` tries all of their pairs."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.chaos.campaign import every_pair, run_campaign, some_pairs, table
from tests.chaos.verdict import total
from tests.deployment.postgres import why_missing

TASKS = 12


@pytest.mark.parametrize("database", ["PostgreSQL", "SQLite"])
def test_nothing_is_lost_and_nothing_runs_twice_whoever_is_harmed(
    database: str, tmp_path: Path
) -> None:
    on_postgres = database == "PostgreSQL"
    if on_postgres and (reason := why_missing()):
        pytest.skip(reason)
    seed = int(os.environ.get("FORGE_CHAOS_SEED") or random.SystemRandom().randrange(10**6))
    print(f"FORGE_CHAOS_SEED={seed} repeats this run")
    choose = every_pair if os.environ.get("FORGE_LONG") else some_pairs
    pairs = choose(random.Random(seed), on_postgres=on_postgres)
    run = run_campaign(tmp_path, pairs, seed=seed, tasks=TASKS, on_postgres=on_postgres)
    outcomes = list(run)
    print(table(outcomes))
    assert not [complaint for outcome in outcomes for complaint in outcome.complaints]
    assert not total(outcome.score for outcome in outcomes).broken
    assert [outcome for outcome in outcomes if not outcome.counts] == []
