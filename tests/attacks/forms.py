"""Commands in all their forms: what the server's own documentation says that they may look like."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis

MOST_CHOICES = 5


def text(raw: Any) -> str:
    return raw.decode() if isinstance(raw, bytes) else str(raw)


def mapping(raw: Any) -> dict[str, Any]:
    """A map of RESP3, or the flat list that stands for one in RESP2."""
    pairs = raw.items() if isinstance(raw, dict) else zip(raw[::2], raw[1::2], strict=True)
    return {text(key): value for key, value in pairs}


@dataclass(frozen=True)
class Documented:
    """A command or subcommand (`acl|cat`) and the tree of its arguments."""

    name: str
    arguments: list[dict[str, Any]]

    def words(self, target: Target, *, full: bool, choice: int) -> list[str]:
        found = self.name.split("|")
        for argument in self.arguments:
            found += _words(argument, target, full=full, choice=choice)
        return found

    def forms(self, target: Target) -> Iterator[list[str]]:
        """The shortest and the longest, each alternative, and one with more words than that."""
        yield [*self.words(target, full=True, choice=0), target.key, "x"]
        seen = set()
        for full in (False, True):
            for choice in range(MOST_CHOICES):
                words = self.words(target, full=full, choice=choice)
                if tuple(words) not in seen:
                    seen.add(tuple(words))
                    yield words


@dataclass(frozen=True)
class Target:
    """What the arguments aim at."""

    key: str
    channel: str
    account: str

    def value(self, argument: dict[str, Any]) -> str:
        kind, name = text(argument["type"]), text(argument["name"])
        if kind == "key":
            return self.key
        if name in ("channel", "shardchannel"):
            return self.channel
        if name == "username":
            return self.account
        numbers = {"integer": "1", "double": "1.5", "unix-time": "1", "pattern": "*"}
        return numbers.get(kind, "x")


def _words(argument: dict[str, Any], target: Target, *, full: bool, choice: int) -> list[str]:
    flags = [text(flag) for flag in argument.get("flags", [])]
    if "optional" in flags and not full:
        return []
    kind = text(argument["type"])
    token = [text(argument["token"])] if "token" in argument else []
    if kind == "pure-token":
        return token
    parts = [mapping(part) for part in argument.get("arguments", [])]
    if kind == "oneof":
        return token + _words(parts[choice % len(parts)], target, full=full, choice=choice)
    if kind == "block":
        inner = [_words(part, target, full=full, choice=choice) for part in parts]
        return token + [word for words in inner for word in words]
    return [*token, target.value(argument)]


def documented(client: redis.Redis) -> list[Documented]:
    """Every command and subcommand that the server has, also those that it does not document."""
    answer: Any = client.execute_command("COMMAND DOCS")  # type: ignore[no-untyped-call]
    found: dict[str, Documented] = {}
    for name, raw in mapping(answer).items():
        _collect(name, mapping(raw), found)
    listed: Any = client.execute_command("COMMAND LIST")  # type: ignore[no-untyped-call]
    for raw_name in listed:
        found.setdefault(text(raw_name), Documented(text(raw_name), []))
    return sorted(found.values(), key=lambda one: one.name)


def _collect(name: str, entry: dict[str, Any], found: dict[str, Documented]) -> None:
    arguments = [mapping(argument) for argument in entry.get("arguments", [])]
    found[name] = Documented(name, arguments)
    for sub_name, raw in mapping(entry.get("subcommands", [])).items():
        _collect(sub_name, mapping(raw), found)


def categories(client: redis.Redis) -> dict[str, list[str]]:
    """ACL CAT: every category, with its commands."""
    names: Any = client.execute_command("ACL", "CAT")  # type: ignore[no-untyped-call]
    found = {}
    for name in names:
        members: Any = client.execute_command("ACL", "CAT", text(name))  # type: ignore[no-untyped-call]
        found[text(name)] = [text(member) for member in members]
    return found


def key_forms(mine: int, other: int) -> list[str]:
    """Names of keys, channels and patterns that are another project's, or might pass for it.

    `other` begins with the digits of `mine`: a prefix that is not closed would open it.
    """
    assert str(other).startswith(str(mine)) and other != mine
    names = "tasks", "runner-1", "_kombu.binding.celery.pidbox", "x.reply.celery.pidbox"
    channels = "/0.celery.pidbox", "/0.celeryev/worker.heartbeat", "/0.celeryev/*"
    found = [f"forge:project:{other}:{name}" for name in (*names, *channels)]
    rest = str(other).removeprefix(str(mine))
    found += [f"forge:project:{mine}{wild}:tasks" for wild in ("*", "?", f"[{rest}]", "[^:]")]
    found += [f"forge:project:{wild}:tasks" for wild in ("*", "??", "[0-9]*", f"\\{other}")]
    found += [f"forge:project:{mine}{rest}", f"forge:project:{mine}", f"forge:project:{mine}\0:x"]
    found += [f"forge:project:{mine} :tasks", f"forge:project:{mine}\r\n:tasks", "forge:project:"]
    found += [f"FORGE:PROJECT:{mine}:tasks", f"forge:project:0{mine}:tasks", f" {found[0]}"]
    found += [f"forge:project:{mine}\u200b:tasks", "forge:project:\u0662:tasks"]
    found += [f"forge:project:+{mine}:tasks", f"forge:project:{mine}/../{other}:tasks"]
    found += ["*", "?", "[^x]*", "forge:*", "forge:live", "forge:project:*", "", "\0", "tasks"]
    found += ["/0.celery.pidbox", "/0.celeryev/*", "/0.celeryev/worker.heartbeat", "celery"]
    found += ["_kombu.binding.celery.pidbox", f"{{{found[0]}}}", f"{found[0]}*"]
    found += ["__keyspace@0__:*", "__keyevent@0__:*", "__redis__:invalidate", "__sentinel__:hello"]
    return found
