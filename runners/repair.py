"""Keeps the accounts on every node of the broker equal to the rows.

`ACL LIST` gives all accounts in one answer (0.6 ms of the server's time for 1,000). What is read
is compared as sets, because servers differ in how they order the very same rules; only what
differs is written. An account that allowed more than it should may have been used: its
connections are ended too, because a pop that already waits, MONITOR, or a connection that signed
in with a foreign password would outlive the correction.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import redis
from django.utils import timezone

from runners.accounts import ACCOUNT_PREFIX, rules_for
from runners.models import Queue, Runner, RunnerToken
from runners.nodes import Node

logger = logging.getLogger(__name__)

_TOKEN = re.compile(r"\([^)]*\)|\S+")
# Words that say nothing: how a rule set begins, and defaults that only some versions print.
_SILENT = {"reset", "resetchannels", "sanitize-payload", "alldbs"}
MAXIMUM_NAMED = 4
# How many accounts are written in one go, from rows that were read a moment before.
BATCH = 100


@dataclass(frozen=True)
class Rules:
    """One account's rules without their order: words of its own, and one set a selector."""

    own: frozenset[str]
    selectors: frozenset[frozenset[str]]

    @classmethod
    def read(cls, words: Iterable[str]) -> Rules:
        """From the words of an ACL LIST line or of an ACL SETUSER command."""
        words = set(words) - _SILENT
        selectors = {word for word in words if word.startswith("(")}
        return cls(
            own=frozenset(words - selectors),
            selectors=frozenset(frozenset(word[1:-1].split()) - _SILENT for word in selectors),
        )

    def is_wider_than(self, other: Rules) -> bool:
        """Whether it allows anything that `other` does not."""
        more = {word for word in self.own - other.own if word != "off" and word[0] != "-"}
        return bool(more) or any(
            not any(mine <= theirs for theirs in other.selectors) for mine in self.selectors
        )

    def differences_from(self, other: Rules) -> str:
        """What is wrong with it, in words, never with a digest."""
        extra, missing = self.own - other.own, other.own - self.own
        said = ["it was off"] if "off" in extra else []
        said += ["it needed no password"] if "nopass" in extra else []
        said += ["it took another password"] if _passwords(extra) else []
        if _passwords(missing) and "nopass" not in extra:
            said.append("it did not take its token")
        surplus = _plain(extra - {"off", "nopass"}) + _selectors(self, other)
        said += [f"it had {_some(surplus)}"] if surplus else []
        lacking = _plain(missing - {"on"}) + _selectors(other, self)
        said += [f"it lacked {_some(lacking)}"] if lacking else []
        return "; ".join(said)


def _passwords(words: Iterable[str]) -> bool:
    return any(word.startswith("#") for word in words)


def _plain(words: Iterable[str]) -> list[str]:
    return sorted(word for word in words if not word.startswith("#"))


def _selectors(mine: Rules, others: Rules) -> list[str]:
    surplus = mine.selectors - others.selectors
    return sorted(f"({' '.join(sorted(words - {'-@all'}))})" for words in surplus)


def _some(words: Sequence[str]) -> str:
    """A few of the words, printable whatever somebody typed into the rules."""
    rest = len(words) - MAXIMUM_NAMED
    shown = ", ".join(ascii(word)[1:-1][:120] for word in words[:MAXIMUM_NAMED])
    return f"{shown} and {rest} more" if rest > 0 else shown


def read_accounts(lines: Iterable[bytes | str]) -> dict[str, Rules]:
    """The accounts under Forge's prefix in an answer to ACL LIST."""
    found = {}
    for line in lines:
        text = line.decode(errors="backslashreplace") if isinstance(line, bytes) else line
        _user, name, *words = _TOKEN.findall(text)
        if name.startswith(ACCOUNT_PREFIX):
            found[name] = Rules.read(words)
    return found


class Expectation:
    """What the rows say at one moment: the accounts that there should be, with their rules."""

    def __init__(self, names: Collection[str] | None = None) -> None:
        """Of all runners, or only of those whose accounts have these names."""
        rows = Runner.objects.with_account(timezone.now()).order_by()
        queues = Queue.objects.order_by()
        if names is not None:
            rows = rows.filter(pk__in=[int(name.removeprefix(ACCOUNT_PREFIX)) for name in names])
            queues = queues.filter(project__in={runner.project_id for runner in rows})
        self.runners = {runner.account: runner for runner in rows}
        self._tags: dict[int, set[str]] = {}
        # Two columns: as rows of a model, a thousand runners' tags take four times as long.
        for pk, tag in rows.exclude(tags=None).values_list("pk", "tags__name"):
            self._tags.setdefault(pk, set()).add(tag)
        self._digests: dict[int, list[str]] = {}
        valid = RunnerToken.objects.valid(now=timezone.now()).filter(runner__in=rows)
        for pk, digest in valid.order_by().values_list("runner_id", "digest"):
            self._digests.setdefault(pk, []).append(digest)
        self._queues: dict[int, list[Queue]] = {}
        for queue in queues:
            self._queues.setdefault(queue.project_id, []).append(queue)

    def rules(self, name: str, *, with_setinfo: bool) -> list[str]:
        """The ACL SETUSER arguments of one account."""
        runner = self.runners[name]
        tags = self._tags.get(runner.pk, set())
        mine = [queue for queue in self._queues.get(runner.project_id, []) if _fits(queue, tags)]
        if not runner.takes_untagged:
            mine = [queue for queue in mine if queue.name != Queue.UNTAGGED]
        digests = self._digests.get(runner.pk, [])
        return rules_for(runner, mine, digests=digests, with_setinfo=with_setinfo)


def _fits(queue: Queue, tags: set[str]) -> bool:
    return queue.required_tags <= tags


class Repair:
    """The comparison, round after round; remembers what each node said when all was right."""

    def __init__(self) -> None:
        self._right: dict[str, list[bytes]] = {}

    def round(self, nodes: Sequence[Node], *, everything: bool) -> int:
        """Make the accounts of every node equal to the rows; returns how many were wrong.

        Without `everything` the rows are not read while each node says the same as when all was
        right. A node that does not answer is noted, and does not keep
        the others from being repaired.
        """
        # The rows are read after the accounts: a new runner's row is there before its account,
        # so no account is taken for an unexplained one.
        found = {node.place: lines for node in nodes if (lines := _try_to_list(node)) is not None}
        due = [node for node in nodes if node.place in found]
        is_same = all(found[node.place] == self._right.get(node.place) for node in due)
        if is_same and not everything:
            return 0
        expected = Expectation()
        changed = 0
        for node in due:
            wrong = _try_to_repair(node, read_accounts(found[node.place]), expected)
            self._right[node.place] = [] if wrong else found[node.place]
            changed += wrong
        return changed


def _try_to_list(node: Node) -> list[bytes] | None:
    if not node.is_due:
        return None
    try:
        lines: list[bytes] = node.command("ACL LIST")
    except redis.RedisError as error:
        node.note_trouble(error)
        return None
    node.note_answer()
    return lines


def _try_to_repair(node: Node, found: dict[str, Rules], expected: Expectation) -> int:
    """Returns how many were wrong; a node that went away meanwhile counts as one more."""
    changed = 0
    try:
        for name in found.keys() - expected.runners.keys():
            changed += _remove(node, name)
        with_setinfo = node.knows_setinfo()
        wrong = [
            name
            for name in expected.runners
            if found.get(name) != _wanted(expected.rules(name, with_setinfo=with_setinfo))
        ]
        for start in range(0, len(wrong), BATCH):
            changed += _correct(node, wrong[start : start + BATCH], found)
    except redis.RedisError as error:
        node.note_trouble(error)
        changed += 1
    return changed


def _wanted(rules: Sequence[str]) -> Rules:
    return Rules.read(_TOKEN.findall(" ".join(rules)))


def _remove(node: Node, name: str) -> int:
    """Delete an account that no row explains; its connections end with it."""
    node.command("ACL", "DELUSER", name)
    runner = _runner_of(name)
    whose = f"runner {runner.name}, which has none now" if runner else "no runner"
    logger.warning("broker %s: removed the account %s of %s", node.place, ascii(name), whose)
    return 1


def _runner_of(account: str) -> Runner | None:
    number = account.removeprefix(ACCOUNT_PREFIX)
    if not re.fullmatch(r"[0-9]{1,18}", number):
        return None
    return Runner.objects.filter(pk=int(number)).first()


def _correct(node: Node, names: Collection[str], found: dict[str, Rules]) -> int:
    """Write some accounts anew, from rows read now: one may have been removed meanwhile.

    Afterwards the rows are read again: a token that ended, or a runner that was removed, after they
    were read and before they were written, was put back by this and is taken away again.
    """
    written: dict[str, Rules] = {}
    fresh = Expectation(names)
    while (wanted := _all_wanted(node, fresh)) != written:
        _write(node, fresh, [name for name in wanted if wanted[name] != written.get(name)])
        for name in written.keys() - wanted.keys():
            _remove(node, name)
        for name, rules in wanted.items():
            if name in written and written[name] != rules:
                node.command("CLIENT", "KILL", "USER", name)
        written, fresh = wanted, Expectation(names)
    for name, runner in fresh.runners.items():
        _finish_repair(node, runner, found.get(name), written[name])
    return len(written)


def _all_wanted(node: Node, expected: Expectation) -> dict[str, Rules]:
    with_setinfo = node.knows_setinfo()
    return {
        name: _wanted(expected.rules(name, with_setinfo=with_setinfo)) for name in expected.runners
    }


def _write(node: Node, expected: Expectation, names: Iterable[str]) -> None:
    pipeline = node.client.pipeline(transaction=False)
    for name in names:
        rules = expected.rules(name, with_setinfo=node.knows_setinfo())
        pipeline.execute_command("ACL", "SETUSER", name, *rules)  # type: ignore[no-untyped-call]
    pipeline.execute()


def _finish_repair(node: Node, runner: Runner, found: Rules | None, wanted: Rules) -> None:
    """Say what was wrong, and end the connections of an account that allowed too much."""
    what = found.differences_from(wanted) if found else "it was missing"
    if found is not None and found.is_wider_than(wanted):
        ended = int(node.command("CLIENT", "KILL", "USER", runner.account))
        what += f"; {ended} of its connections were ended"
    logger.warning(
        "broker %s: repaired the account %s of runner %s: %s",
        node.place,
        runner.account,
        runner.name,
        what,
    )
