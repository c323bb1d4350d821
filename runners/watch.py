"""Watches what runners do to the broker, and cuts off whoever harms it.

An account bounds what a runner may touch, not how much: with `noeviction`, one that fills the
memory has everybody else refused, and one that leaves its answers unread fills it as well
(DESIGN D4). So totals are looked at a few times a second; when they grow, or every ten seconds,
connections and keys are looked at too. What exceeds a limit is deleted and its author put into
quarantine: account gone, connections ended, heartbeat and running tasks untouched.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from dataclasses import dataclass

import redis
from django.conf import settings
from django.utils import timezone

from projects.models import Project
from runners.accounts import ACCOUNT_PREFIX, remove_account
from runners.denials import (
    authors_of,
    forget_commands,
    forget_denials,
    is_too_large,
    read_denials,
)
from runners.models import Runner
from runners.operations import quarantine_runner
from runners.usage import (
    Pile,
    Totals,
    by_account,
    delete_pile,
    read_connections,
    read_keys,
    read_totals,
    weigh,
)

logger = logging.getLogger(__name__)

# What makes a look at the totals a closer one.
GROWTH_BYTES = 4 * 1024**2
GROWTH_CONNECTIONS = 50
REGULAR_SECONDS = 10.0
# After a cut the next looks are close ones: who filled the broker by ten connections may go on.
ALERT_SECONDS = 3.0
# Looks in a row with too much traffic before somebody is cut for it.
BUSY_LOOKS = 5
MAXIMUM_KEYS = 2000
# redis-py calls itself by some twenty bytes.
MAXIMUM_NAME_BYTES = 16 * 1024
# Above this share of the memory limit everything is judged sixteen times as strictly.
DANGER = 0.6
STRICTER = 16
# Sets are what SMEMBERS multiplies: of a project's bytes they may have this part. A fleet of a
# thousand workers and those who ask them leave 200 KB there.
SET_SHARE = 1 / 32
# Who has this share of all that happened is an author of it.
AUTHOR_SHARE = 0.25
LOUDEST_SHARE = 0.25
# Of 64 KiB moved, or 100 commands sent, while it was listened to: about 5 MB/s or 8,000/s.
LOUD_UNITS = 5.0
# Once the server has ended connections for what they held, less is needed to tell whose.
EVICTED_UNITS = 0.5
STRANGE_SECONDS = 600.0


@dataclass(frozen=True)
class Limits:
    """What one project, or one runner, may take up at this moment."""

    project_bytes: int
    runner_bytes: int

    @classmethod
    def at(cls, totals: Totals) -> Limits:
        is_danger = totals.memory_limit and totals.memory > DANGER * totals.memory_limit
        part = STRICTER if is_danger else 1
        return cls(
            project_bytes=settings.FORGE_BROKER_PROJECT_BYTES // part,
            runner_bytes=settings.FORGE_BROKER_RUNNER_BYTES // part,
        )


class Watch:
    """The looks of one controller at one node. `look` is called every few hundred ms."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._last: tuple[float, Totals] | None = None
        self._base_memory = 0
        self._base_connections = 0
        self._regular_at = 0.0
        self._alert_until = 0.0
        self._busy_looks = 0
        # What each project had at the last closer look; unknown before the first.
        self._sizes: dict[int, int] | None = None
        self._strange_at = 0.0
        self._was_strange = 0

    def look(self) -> list[Runner]:
        """Look once; returns the runners that were cut off. Raises redis.RedisError."""
        totals = read_totals(self._client)
        moment = time.monotonic()
        cut: list[Runner] = []
        if self._is_close_due(totals, moment):
            cut += self._look_closer(totals)
            self._base_memory, self._base_connections = totals.memory, totals.connections
            self._regular_at = moment + REGULAR_SECONDS
        if self._is_too_busy(totals, moment):
            what = "it kept the broker busier than a worker ever does; others had to wait."
            cut += self._cut_the_loudest(LOUD_UNITS, what)
        # Whoever was cut in this look is who held it: the loudest of the others did nothing.
        elif not cut and self._last and totals.evictions > self._last[1].evictions:
            what = "the broker had to end its connections, because they held too much there."
            cut += self._cut_the_loudest(EVICTED_UNITS, what)
        self._last = (moment, totals)
        if cut:
            self._alert_until = time.monotonic() + ALERT_SECONDS
        return cut

    def _is_close_due(self, totals: Totals, moment: float) -> bool:
        self._base_memory = min(self._base_memory, totals.memory)
        self._base_connections = min(self._base_connections, totals.connections)
        return (
            totals.memory - self._base_memory > GROWTH_BYTES
            or totals.connections - self._base_connections > GROWTH_CONNECTIONS
            or moment > self._regular_at
            or moment < self._alert_until
            or (self._last is not None and totals.evictions > self._last[1].evictions)
        )

    # --- memory, connections, keys ---

    def _look_closer(self, totals: Totals) -> list[Runner]:
        # First what the broker remembers of refusals: no limit of the server bounds its size.
        cut = self._clear_denials()
        limits = Limits.at(totals)
        try:
            cut += self._cut_the_greedy(limits)
        except (redis.ConnectionError, redis.TimeoutError):
            # Raises if the broker is away. Otherwise the answer was too large to be sent.
            self._client.ping()
            cut += self._cut_the_unnameable(limits)
        return cut + self._clear_piles(totals, limits)

    def _clear_denials(self) -> list[Runner]:
        """Accounts whose refused commands the broker has to remember at great length."""
        try:
            denials = read_denials(self._client)
        except (redis.ConnectionError, redis.TimeoutError):
            # Too large to be sent; or the broker is away, and this raises too.
            forget_denials(self._client)
            return []
        if not is_too_large(denials):
            return []
        what = "what it sent and the broker refused was far longer than a worker's commands."
        cut = [runner for account in authors_of(denials) for runner in _cut(account, what)]
        forget_denials(self._client)
        forget_commands(self._client)
        return cut

    def _cut_the_unnameable(self, limits: Limits) -> list[Runner]:
        """Connections that call themselves by names of megabytes, so that no list of them comes.

        Every runner's are ended, one account after the other, and the memory tells whose it was.
        An honest worker is back in a moment; a hint that was on its way to it is put out again.
        """
        cut = []
        for runner in Runner.objects.with_account(timezone.now()):
            before = read_totals(self._client).memory
            self._client.execute_command(  # type: ignore[no-untyped-call]
                "CLIENT", "KILL", "USER", runner.account
            )
            freed = before - read_totals(self._client).memory
            if freed > limits.runner_bytes:
                what = _held(freed, "of the broker's memory", limits.runner_bytes)
                cut += _cut(runner.account, f"its connections held {what}.")
        forget_commands(self._client)
        return cut

    def _cut_the_greedy(self, limits: Limits) -> list[Runner]:
        """Accounts whose own connections take up too much."""
        cut = []
        for account, usage in by_account(read_connections(self._client)).items():
            if usage.longest_name > MAXIMUM_NAME_BYTES:
                what = f"its connections called themselves by names of {usage.longest_name:,} bytes"
                cut += _cut(account, f"{what}.")
                forget_commands(self._client)
            elif usage.memory > limits.runner_bytes:
                what = _held(usage.memory, "of the broker's memory", limits.runner_bytes)
                cut += _cut(account, f"its connections held {what}.")
            elif usage.connections > settings.FORGE_BROKER_RUNNER_CONNECTIONS:
                most = settings.FORGE_BROKER_RUNNER_CONNECTIONS
                what = f"it had {usage.connections} connections to the broker"
                cut += _cut(account, f"{what}, {most} is the limit.")
        return cut

    def _clear_piles(self, totals: Totals, limits: Limits) -> list[Runner]:
        projects = set(Project.objects.values_list("pk", flat=True))
        keys = read_keys(self._client, projects, most_keys=MAXIMUM_KEYS)
        self._report_strange(keys.strange, keys.strange_count)
        cut = []
        for project_id, pile in keys.piles.items():
            if what := _excess(pile, limits):
                cut += self._clear(project_id, pile, what, totals)
        self._sizes = {project_id: pile.bytes for project_id, pile in keys.piles.items()}
        return cut

    def _clear(self, project_id: int, pile: Pile, what: str, totals: Totals) -> list[Runner]:
        """Cut off who made the pile, then delete it: the other way round it would grow again."""
        rows = Runner.objects.with_account(timezone.now()).filter(project=project_id)
        cut = []
        try:
            accounts = [runner.account for runner in rows]
            # Counted with those that are cut off already: what one of them left behind is not
            # the work of the sibling that still has an account.
            is_only = Runner.objects.present().filter(project=project_id).count() == 1
            if not is_only or not self._is_new(project_id, pile):
                accounts = self._authors(accounts, totals, pile)
            for account in accounts:
                cut += _cut(account, f"it left {what} for its project.")
        finally:
            deleted = delete_pile(self._client, project_id)
        logger.warning(
            "project %d: its runners left %s; %d keys were deleted and %s",
            project_id,
            what,
            deleted,
            "the author was cut off" if cut else "no runner was seen writing it",
        )
        return cut

    def _is_new(self, project_id: int, pile: Pile) -> bool:
        """Whether most of it came since the last closer look, and not little by little."""
        return self._sizes is not None and self._sizes.get(project_id, 0) < pile.bytes / 2

    def _authors(self, accounts: Collection[str], totals: Totals, pile: Pile) -> list[str]:
        """Who among a project's accounts wrote the pile, as far as that can be seen."""
        connections = [one for one in read_connections(self._client) if one.account in accounts]
        found = {name: weight for name, weight in weigh(self._client).items() if name in accounts}
        share = AUTHOR_SHARE * sum(found.values())
        authors = [name for name, weight in found.items() if weight >= max(share, 1.0)]
        # It may have stopped already: then what its connections have moved so far tells.
        authors = authors or sorted(
            {one.account for one in connections if (one.traffic or 0) > pile.bytes / 2}
        )
        if not authors and totals.memory_limit and totals.memory > DANGER * totals.memory_limit:
            # Other projects are about to be refused: all of this one's that are signed in.
            authors = sorted({one.account for one in connections})
        return authors

    def _report_strange(self, examples: list[bytes], count: int) -> None:
        """Keys under Forge's prefix that belong to no project: said when there are more."""
        if count <= self._was_strange and time.monotonic() < self._strange_at:
            return
        self._was_strange = count
        self._strange_at = time.monotonic() + STRANGE_SECONDS
        if count:
            named = ", ".join(ascii(key)[2:-1] for key in examples)
            logger.warning(
                "broker: %d keys under forge: belong to no project, such as %s. Forge did not "
                "write them; delete them if nobody else needs them.",
                count,
                named,
            )

    # --- traffic ---

    def _is_too_busy(self, totals: Totals, moment: float) -> bool:
        """Whether for the last few looks more went through the server than is good."""
        if self._last is None:
            return False
        before, earlier = self._last
        seconds = max(moment - before, 0.001)
        moved = totals.input_bytes + totals.output_bytes
        moved -= earlier.input_bytes + earlier.output_bytes
        commands = totals.commands - earlier.commands
        is_busy = (
            moved / seconds > settings.FORGE_BROKER_TRAFFIC_BYTES
            or commands / seconds > settings.FORGE_BROKER_COMMANDS
        )
        self._busy_looks = self._busy_looks + 1 if is_busy else 0
        return self._busy_looks >= BUSY_LOOKS

    def _cut_the_loudest(self, least: float, what: str) -> list[Runner]:
        """One that makes a good part of the traffic; a whole fleet that is busy is left alone."""
        self._busy_looks = 0
        found = weigh(self._client)
        account = max(found, key=lambda name: found[name], default="")
        if account and found[account] >= max(LOUDEST_SHARE * sum(found.values()), least):
            return _cut(account, what)
        logger.warning("broker: very busy, and no single runner is the reason")
        return []


def _excess(pile: Pile, limits: Limits) -> str:
    """What is too much in a pile, and the limit, in words; empty if nothing is."""
    most_in_sets = int(limits.project_bytes * SET_SHARE)
    if pile.keys > MAXIMUM_KEYS:
        return f"more than {MAXIMUM_KEYS:,} keys in the broker, the limit"
    if pile.set_bytes > most_in_sets:
        return _held(pile.set_bytes, "in sets in the broker", most_in_sets)
    if pile.bytes > limits.project_bytes:
        return _held(pile.bytes, "in the broker", limits.project_bytes)
    return ""


def _held(count: int, where: str, limit: int) -> str:
    return f"{_megabytes(count)} {where}, {_megabytes(limit)} is the limit"


def _cut(account: str, why: str) -> list[Runner]:
    """Put the account's runner into quarantine; in a list, empty if it has none or was cut.

    Raises redis.RedisError and django.db.Error; the account is gone in the latter case too.
    """
    remove_account(account)
    number = account.removeprefix(ACCOUNT_PREFIX)
    if not number.isdigit() or len(number) > 18:
        return []
    runner = Runner.objects.present().filter(pk=int(number)).first()
    reason = why[0].upper() + why[1:]
    if runner is None or not quarantine_runner(runner=runner, reason=reason, now=timezone.now()):
        return []
    logger.warning(
        "runner %s (%s) was cut off from the broker until %s: %s",
        runner.name,
        account,
        f"{runner.quarantined_until:%Y-%m-%d %H:%M:%S %Z}",
        why,
    )
    return [runner]


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
