"""`make chaos`: harm a real Forge at every boundary, and count what became of its tasks.

    python -m tests.chaos [--seed 7] [--short | --first 82] [--sqlite]
                          [--only "mid-log"] [--harm KillWorker]

The seed is printed, and repeats the run: the same trials in the same order, striking the same
as far as the machine has let the same begin by then.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.campaign import every_pair, run_campaign, some_pairs, table
from tests.chaos.verdict import total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--short", action="store_true", help="each boundary and harm once")
    parser.add_argument("--sqlite", action="store_true", help="one controller, no PostgreSQL")
    parser.add_argument("--first", type=int, default=1, help="leave out what comes before")
    parser.add_argument("--only", help="a boundary")
    parser.add_argument("--harm", help="a harm's name")
    parser.add_argument("--tasks", type=int, default=12, help="a trial")
    given = parser.parse_args()
    chance = random.Random(given.seed)
    on_postgres = not given.sqlite
    choose = some_pairs if given.short else every_pair
    pairs = choose(chance, on_postgres=on_postgres)
    if given.only or given.harm:
        pairs = [
            (place, harm)
            for place, harm in every_pair(chance, on_postgres=on_postgres)
            if given.only in (None, place) and given.harm in (None, harm.__name__)
        ]
    if not pairs:
        parser.error("there is no such trial: name a boundary as in the table, a harm by its class")
    if not 1 <= given.first <= len(pairs):
        parser.error(f"--first is from 1 to {len(pairs)}: there are {len(pairs)} trials")
    pairs = pairs[given.first - 1 :]
    print(f"seed {given.seed}, {len(pairs)} trials of {given.tasks} tasks", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="forge-chaos-") as folder:
        outcomes = list(
            run_campaign(
                Path(folder),
                pairs,
                seed=given.seed,
                tasks=given.tasks,
                on_postgres=on_postgres,
                tell=_tell,
            )
        )
    print(table(outcomes))
    proven = sum(outcome.counts for outcome in outcomes)
    beside = sum(outcome.is_beside for outcome in outcomes)
    print(
        f"{proven} of {len(outcomes)} proven inside, {beside} of them beside the task that stood "
        f"still, {time.monotonic() - began:.0f} s"
    )
    is_clean = not total(one.score for one in outcomes).broken and proven == len(outcomes)
    return 0 if is_clean else 1


def _tell(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
