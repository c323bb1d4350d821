"""Which tasks runners may take, by what they offer: for all runners of a project at once.

One runner or one queue is asked of the database (`Runner.may_take`, `RunnerQuerySet.entitled_to`);
both say the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runners.models import Runner

if TYPE_CHECKING:
    from runners.models import RunnerQuerySet


@dataclass(frozen=True)
class Offer:
    """What a runner offers. Most of a project's runners offer the same, and are one in a set."""

    tags: frozenset[str]
    takes_untagged: bool

    def covers(self, required: Set[str]) -> bool:
        """Whether a runner that offers this may take tasks that require these tags."""
        return required <= self.tags if required else self.takes_untagged


def offers_of(runners: RunnerQuerySet) -> frozenset[Offer]:
    """What these runners offer, each offer once; two queries, however many they are."""
    pairs = Runner.tags.through.objects.filter(runner__in=runners.order_by().values("pk"))
    tags: dict[int, set[str]] = defaultdict(set)
    for pk, name in pairs.values_list("runner_id", "tag__name"):
        tags[pk].add(name)
    rows = runners.order_by().values_list("pk", "takes_untagged")
    return frozenset(Offer(frozenset(tags[pk]), takes_untagged) for pk, takes_untagged in rows)


def is_covered(required: Set[str], offers: Iterable[Offer]) -> bool:
    """Whether anybody who offers one of these may take tasks that require these tags."""
    return any(offer.covers(required) for offer in offers)
