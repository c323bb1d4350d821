"""What the broker refused to runners' accounts: it remembers that itself (ACL LOG).

It remembers the refused name whole, and with it the names that the client has given itself:
megabytes an entry, if somebody means harm, and no connection's memory counts them. So the list is
read a few entries at first, and forgotten when it is too large. An entry is a map in RESP3 and a
flat list before it (https://redis.io/docs/latest/commands/acl-log/).
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import redis

from runners.accounts import ACCOUNT_PREFIX
from runners.models import Runner
from runners.quotas import network_of
from runners.refusals import refusals

# How many entries are asked for, one after the other, while what came is small.
STEPS = (1, 4, 128)
# All that honest workers ever leave there is some hundred bytes an entry.
MAXIMUM_BYTES = 1024**2
AUTHOR_BYTES = MAXIMUM_BYTES // 4
_REASONS = {b"command", b"key", b"channel", b"auth", b"db"}
_ADDRESS = re.compile(rb" addr=(\S{1,100}):\d+ ")
_USER = re.compile(rb" user=(\S{1,100})(?: |\Z)")
_NUMBER = re.compile(rf"\A{ACCOUNT_PREFIX}([0-9]{{1,18}})\Z")


@dataclass(frozen=True)
class Denial:
    """One entry: what was refused to whom, and how often. `size` is what it takes up, in bytes.

    `account` is who was signed in; `claimed` whose name a failed sign-in gave.
    """

    account: str
    claimed: str
    reason: str
    what: str
    address: str
    count: int
    size: int

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """The same refusal again raises this entry's count, or makes another one like it."""
        return (self.account, self.claimed, self.reason, self.what)


def read_denials(client: redis.Redis) -> list[Denial]:
    """The latest refusals; fewer when they are large. Raises redis.RedisError."""
    found: list[Denial] = []
    for most in STEPS:
        answer: Any = client.execute_command("ACL", "LOG", str(most))  # type: ignore[no-untyped-call]
        found = [_denial(_as_mapping(entry)) for entry in answer]
        if len(found) < most or is_too_large(found):
            break
    return found


def _as_mapping(entry: Any) -> dict[bytes, Any]:
    if isinstance(entry, dict):
        return entry
    return dict(zip(entry[::2], entry[1::2], strict=True))


def _denial(entry: dict[bytes, Any]) -> Denial:
    what, user, info = (bytes(entry[name]) for name in (b"object", b"username", b"client-info"))
    reason = bytes(entry[b"reason"])
    address, signed_in = _ADDRESS.search(info), _USER.search(info)
    is_sign_in = reason == b"auth"
    account = (signed_in[1] if signed_in else b"") if is_sign_in else user
    return Denial(
        account=_text(account),
        claimed=_text(user) if is_sign_in else "",
        reason=_text(reason) if reason in _REASONS else "other",
        what=_text(what),
        address=_text(address[1]) if address else "",
        count=int(entry[b"count"]),
        size=len(what) + len(user) + len(info),
    )


def _text(raw: bytes) -> str:
    return raw[:200].decode(errors="replace")


def is_too_large(denials: Iterable[Denial]) -> bool:
    """Whether remembering these costs the broker more than it may."""
    return sum(denial.size for denial in denials) > MAXIMUM_BYTES


def forget_denials(client: redis.Redis) -> None:
    """Free what the broker remembers. Raises redis.RedisError."""
    client.execute_command("ACL", "LOG", "RESET")  # type: ignore[no-untyped-call]


def forget_commands(client: redis.Redis) -> None:
    """Free the log of slow and large commands: it keeps the senders' names for themselves.

    Raises redis.RedisError, unless the server is too old for one of its parts.
    """
    client.slowlog_reset()
    for kind in ("large-request", "large-reply"):
        with contextlib.suppress(redis.ResponseError):  # before Valkey 8.1, and Redis
            client.execute_command("COMMANDLOG", "RESET", kind)  # type: ignore[no-untyped-call]


def authors_of(denials: Iterable[Denial]) -> set[str]:
    """The runners' accounts whose refusals are much too large."""
    sizes: dict[str, int] = {}
    for denial in denials:
        sizes[denial.account] = sizes.get(denial.account, 0) + denial.size
    large = {account for account, size in sizes.items() if size > AUTHOR_BYTES}
    return {account for account in large if _NUMBER.match(account)}


class DenialLog:
    """Writes what is new in one node's list to Forge's log, by the runner's name."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str, str, str], int] = {}

    def note(self, denials: Iterable[Denial]) -> None:
        """Compare with what was there before; what is more, is new.

        What lies there at first may be hours old: it is told all the same, since a controller
        that takes the lead cannot know whether the one before it has.
        """
        counts: dict[tuple[str, str, str, str], int] = {}
        latest: dict[tuple[str, str, str, str], Denial] = {}
        for denial in denials:
            counts[denial.identity] = counts.get(denial.identity, 0) + denial.count
            latest.setdefault(denial.identity, denial)
        before = self._seen
        for identity, count in counts.items():
            if count > before.get(identity, 0):
                _write(latest[identity], count - before.get(identity, 0))
        self._seen = counts


def _write(denial: Denial, count: int) -> None:
    times = f" ({count} times)" if count > 1 else ""
    code = f"broker_{denial.reason}"
    number = _NUMBER.match(denial.account)
    runner = Runner.objects.filter(pk=int(number[1])).first() if number else None
    if runner is not None:
        whose = f" as {denial.claimed}" if denial.claimed else ""
        detail = f"the broker refused {denial.what}{whose}{times}"
        refusals.of_runner(runner, code, detail, level=logging.WARNING)
    elif denial.claimed.startswith(ACCOUNT_PREFIX):
        detail = f"the broker refused to sign it in as {denial.claimed}{times}"
        refusals.of_stranger(network_of(denial.address), code, detail)
