"""Many trials after each other, chosen by a seed, and the table that they give."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

from tests.chaos.conductor import PLACES
from tests.chaos.harms import (
    AskForceStop,
    AskStop,
    CutWorker,
    CutWorkerPastLease,
    Harm,
    KillAll,
    KillProgram,
    KillSupervisor,
    KillSupervisorAndServer,
    KillWorker,
    StopProgram,
    StopWorker,
    StopWorkerPastLease,
)
from tests.chaos.installation import Installation, installed
from tests.chaos.server_harms import (
    EmptyBroker,
    KillBroker,
    KillController,
    KillDatabase,
    KillWeb,
    StopBroker,
    StopController,
    StopDatabase,
    StopWeb,
)
from tests.chaos.trial import Outcome, Trial
from tests.chaos.verdict import Score, judge_again, total

HARMS: tuple[type[Harm], ...] = (
    KillWorker,
    StopWorker,
    CutWorker,
    StopWorkerPastLease,
    CutWorkerPastLease,
    KillSupervisor,
    KillSupervisorAndServer,
    KillAll,
    KillProgram,
    StopProgram,
    AskStop,
    AskForceStop,
    KillWeb,
    StopWeb,
    KillController,
    StopController,
    KillBroker,
    EmptyBroker,
    StopBroker,
    KillDatabase,
    StopDatabase,
)

Pair = tuple[str, type[Harm]]
_HEADS = (
    "tasks",
    "vanished",
    "twice",
    "unpermitted",
    "overlap",
    "wrong state",
    "reason untrue",
    "log incomplete",
    "late",
    "lost",
    "marked gap",
    "beside left",
)


def every_pair(chance: random.Random, *, on_postgres: bool = True) -> list[Pair]:
    """Every place with every harm, in an order of chance."""
    harms = _harms(on_postgres=on_postgres)
    pairs = [(place, harm) for place in PLACES for harm in harms]
    chance.shuffle(pairs)
    return pairs


def some_pairs(chance: random.Random, *, on_postgres: bool = True) -> list[Pair]:
    """As few as let every place and every harm come at least once.

    Of the harms that outlast leases, which take longest, only one.
    """
    harms = _harms(on_postgres=on_postgres)
    chance.shuffle(harms)
    long = [harm for harm in harms if harm.outlasts_leases]
    harms = [harm for harm in harms if harm not in long[1:]]
    count = max(len(harms), len(PLACES))
    return [(PLACES[n % len(PLACES)], harms[n % len(harms)]) for n in range(count)]


def _harms(*, on_postgres: bool) -> list[type[Harm]]:
    return [harm for harm in HARMS if on_postgres or not harm.needs_postgres]


def run_campaign(
    folder: Path,
    pairs: list[Pair],
    *,
    seed: int,
    tasks: int,
    on_postgres: bool = True,
    tell: Callable[[str], None] = print,
) -> Iterator[Outcome]:
    """Run the trials on one installation and yield how each went."""
    outcomes: list[Outcome] = []
    with installed(folder, on_postgres=on_postgres) as here:
        for number, (place, harm) in enumerate(pairs, 1):
            # Each trial has a chance of its own: the same, whatever came before it.
            chance = random.Random(f"{seed} {place} {harm.__name__}")
            try:
                outcome = _try(here, place, harm, chance, tasks)
            except AssertionError as error:
                error.add_note(f"in trial {number}, {place} | {harm.__name__}\n{here.last_words()}")
                raise
            tell(f"{number}/{len(pairs)} {place} | {harm.victim}, {harm.way}: {_said(outcome)}")
            outcomes.append(outcome)
            yield outcome
        _judge_again(here, outcomes, tell)


def _judge_again(here: Installation, outcomes: list[Outcome], tell: Callable[[str], None]) -> None:
    """When all is over: what has happened to a trial's tasks after its verdict is added to it."""
    here.settle()
    ledger = here.written()
    for outcome in outcomes:
        for facts in outcome.facts:
            rows = here.rows_of({row["template"] for row in facts.rows.values()})
            _add(outcome, judge_again(facts, rows, ledger), tell)
    known = {task for outcome in outcomes for facts in outcome.facts for task in facts.rows}
    strangers = {task for task, _, _ in ledger.starts} - known
    last = [f"task {task} is no trial's, and was started" for task in sorted(strangers)]
    last += [f"of task {task} something lives on" for task in here.still_alive(known)]
    _add(outcomes[-1], last, tell)


def _add(outcome: Outcome, late: list[str], tell: Callable[[str], None]) -> None:
    outcome.score.late += len(late)
    outcome.complaints += late
    for complaint in late:
        tell(f"at the end, of {outcome.place} | {outcome.harm.victim}: {complaint}")


def _try(
    here: Installation, place: str, harm: type[Harm], chance: random.Random, tasks: int
) -> Outcome:
    outcome = Trial(here, place, harm, chance, tasks).run()
    if outcome.counts:
        return outcome
    # The blow came too late, or nobody was there to be struck: once more, which counts instead.
    again = Trial(here, place, harm, chance, tasks).run()
    again.score += outcome.score
    again.complaints += outcome.complaints
    again.facts += outcome.facts
    return again


def _said(outcome: Outcome) -> str:
    words = f"{outcome.score.tasks} tasks in {outcome.seconds:.1f} s"
    if outcome.is_beside:
        words += ", of another task than the one that stood still"
    if not outcome.counts:
        words += f", does not count: {outcome.why_not}"
    return "\n  ".join([words, *outcome.complaints])


def table(outcomes: list[Outcome]) -> str:
    """Boundary by victim, and the sum."""
    lines = [_line("boundary", "victim", *_HEADS)]
    for outcome in sorted(outcomes, key=lambda one: PLACES.index(one.place)):
        victim = f"{outcome.harm.victim}, {outcome.harm.way}"
        mark = " (beside)" if outcome.is_beside else ""
        mark = mark if outcome.counts else " (not proven)"
        lines.append(_line(outcome.place, victim + mark, *_numbers(outcome.score)))
    lines.append(_line("all", "", *_numbers(total(one.score for one in outcomes))))
    return "\n".join(lines)


def _numbers(score: Score) -> list[int]:
    return [getattr(score, one.name) for one in fields(score)]


def _line(place: str, victim: str, *columns: object) -> str:
    return f"{place:<17} {victim:<48}" + "".join(f"{column!s:>15}" for column in columns)
