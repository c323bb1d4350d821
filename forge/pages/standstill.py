"""In words, why none of some runners takes tasks: on purpose, or because they are out of reach."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from projects.words import listed
from runners.status import RunnerStatus

_ON_PURPOSE = (RunnerStatus.PAUSED, RunnerStatus.DRAINING)
# In this order: what somebody decided, what is heard and cannot, what is not heard.
_ORDER = (
    *_ON_PURPOSE,
    RunnerStatus.UNHEALTHY,
    RunnerStatus.OFFLINE,
    RunnerStatus.NEVER_CONTACTED,
)
_UNHEARD = {RunnerStatus.OFFLINE, RunnerStatus.NEVER_CONTACTED}


def is_on_purpose(statuses: Sequence[RunnerStatus]) -> bool:
    """Whether people took all of them out of service, so that nothing is broken."""
    return bool(statuses) and set(statuses) <= set(_ON_PURPOSE)


def is_silence(statuses: Sequence[RunnerStatus]) -> bool:
    """Whether none of them is heard."""
    return set(statuses) <= _UNHEARD


def counts_in_words(statuses: Sequence[RunnerStatus]) -> str:
    """`2 paused and 1 offline`."""
    counts = Counter(statuses)
    return listed([f"{counts[one]:,} {one.label.lower()}" for one in _ORDER if counts[one]])


def out_of_reach(tasks: int) -> str:
    """`5 are out of reach`, behind how many run."""
    return f"{tasks:,} {'is' if tasks == 1 else 'are'} out of reach"


def of_a_tag(statuses: Sequence[RunnerStatus]) -> str:
    """Behind how many wait for a tag; `statuses` are those of all runners that have it."""
    if is_silence(statuses):
        return "no online runner"
    if len(set(statuses)) > 1:
        return f"no runner takes it: {counts_in_words(statuses)}"
    word = statuses[0].label.lower()
    if len(statuses) == 1:
        return f"its only runner is {word}"
    return f"both are {word}" if len(statuses) == 2 else f"all {len(statuses):,} are {word}"


def of_a_project(statuses: Sequence[RunnerStatus]) -> str:
    """A sentence; `statuses` are those of all of the project's runners."""
    if is_silence(statuses):
        return "No runner is online."
    if len(set(statuses)) > 1:
        return f"No runner takes tasks: {counts_in_words(statuses)}."
    word = statuses[0].label.lower()
    if len(statuses) == 1:
        return f"The only runner is {word}."
    every = "Both" if len(statuses) == 2 else f"All {len(statuses):,}"
    return f"{every} runners are {word}."
