"""What runners' accounts take up on the broker: memory, connections, keys, traffic.

Three measurements, from cheap to dear: totals of the whole server (0.02 ms of its time), its
connections (CLIENT LIST), and the keys that runners may write (SCAN with MEMORY USAGE). All they
say comes from the server; what it repeats of a client (names, keys) is hostile and stays bytes.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import redis

from runners.accounts import ACCOUNT_PREFIX
from runners.broker import PREFIX

_TOTAL = re.compile(rb"^([a-z_]+):(\d+)\r?$", re.MULTILINE)
_KEY = re.compile(rb"\A" + PREFIX.encode() + rb"project:(\d{1,18}):(.+)\Z", re.DOTALL)
SCAN_COUNT = 1000
DELETING_SECONDS = 1.0
# Sizes of big lists and sets are estimated from this many of their elements.
SAMPLES = 20
# Of one project, this many keys are measured; there are a handful while nobody does harm.
MEASURED_KEYS = 500
# Of foreign keys, this many are remembered for the log.
NAMED_KEYS = 5
# Which of these a server counts differs by its version.
_EVICTIONS = (
    b"evicted_clients",
    b"client_query_buffer_limit_disconnections",
    b"client_output_buffer_limit_disconnections",
)
# What weighs as much as 64 KiB moved: a hundred commands, or one reading of a whole set.
UNIT = 65536
COMMAND_UNITS = 0.01
SET_READ_UNITS = 1.0
WEIGHING_SECONDS = 0.06
USUAL_BUFFERS = 64 * 1024
# A line of MONITOR: time, database and client, then the command and its arguments in quotes.
_HEARD = re.compile(rb'\A[\d.]+ \[\d+ (\S+)\] "(\w+)".*\Z', re.DOTALL)


@dataclass(frozen=True)
class Totals:
    """The whole server. Bytes in use and allowed (0: no limit); the rest counts since its start."""

    memory: int
    memory_limit: int
    connections: int
    commands: int
    input_bytes: int
    output_bytes: int
    # Connections that the server itself ended because they held too much.
    evictions: int


def read_totals(client: redis.Redis) -> Totals:
    """Raises redis.RedisError."""
    # As one word, so that redis-py hands over the text instead of parsing a hundred fields.
    raw: Any = client.execute_command("INFO memory clients stats")  # type: ignore[no-untyped-call]
    found = {name: int(number) for name, number in _TOTAL.findall(_bytes(raw))}
    return Totals(
        memory=found[b"used_memory"],
        memory_limit=found[b"maxmemory"],
        connections=found[b"connected_clients"],
        commands=found[b"total_commands_processed"],
        input_bytes=found[b"total_net_input_bytes"],
        output_bytes=found[b"total_net_output_bytes"],
        evictions=sum(found.get(name, 0) for name in _EVICTIONS),
    )


def _bytes(raw: Any) -> bytes:
    return raw if isinstance(raw, bytes) else str(raw).encode()


@dataclass(frozen=True)
class Connection:
    """One connection of a runner's account. `traffic` is None where the server does not count.

    `name_bytes` are of what it calls itself; the server counts them in none of its figures.
    """

    id: bytes
    address: bytes
    account: str
    memory: int
    name_bytes: int
    waiting_bytes: int
    traffic: int | None


def read_connections(client: redis.Redis) -> list[Connection]:
    """The connections of runners' accounts. Raises redis.RedisError."""
    raw: Any = client.execute_command("CLIENT", "LIST")  # type: ignore[no-untyped-call]
    mark = f" user={ACCOUNT_PREFIX}".encode()
    return [_connection(line) for line in _bytes(raw).splitlines() if mark in line]


def _connection(line: bytes) -> Connection:
    found = dict(part.partition(b"=")[::2] for part in line.split(b" "))

    def number(name: bytes) -> int:
        text = found.get(name, b"0")
        return int(text) if text.isdigit() else 0

    counts = b"tot-net-in" in found
    return Connection(
        id=found[b"id"],
        address=found[b"addr"],
        account=found[b"user"].decode(errors="replace"),
        memory=number(b"tot-mem"),
        name_bytes=sum(len(found.get(name, b"")) for name in (b"name", b"lib-name", b"lib-ver")),
        waiting_bytes=sum(map(number, (b"qbuf", b"qbuf-free", b"argv-mem", b"multi-mem", b"omem"))),
        traffic=number(b"tot-net-in") + number(b"tot-net-out") if counts else None,
    )


@dataclass
class AccountUsage:
    """All connections of one account together."""

    connections: int = 0
    memory: int = 0
    longest_name: int = 0


def by_account(connections: Iterable[Connection]) -> dict[str, AccountUsage]:
    found: dict[str, AccountUsage] = defaultdict(AccountUsage)
    for connection in connections:
        usage = found[connection.account]
        usage.connections += 1
        usage.memory += connection.memory
        usage.longest_name = max(usage.longest_name, connection.name_bytes)
    return dict(found)


@dataclass
class Pile:
    """What lies in one project's keyspace where its runners may write."""

    keys: int = 0
    bytes: int = 0
    set_bytes: int = 0


@dataclass
class Keys:
    """The keys under Forge's prefix: piles by project, and names that are nobody's."""

    piles: dict[int, Pile] = field(default_factory=lambda: defaultdict(Pile))
    strange: list[bytes] = field(default_factory=list)
    strange_count: int = 0


def is_writable(name: bytes) -> bool:
    """Whether a runner's account may write this key, given without its project's prefix."""
    return name.startswith(b"_kombu.") or name.endswith(b".reply.celery.pidbox")


def read_keys(client: redis.Redis, projects: set[int], *, most_keys: int) -> Keys:
    """Measure what is there; `projects` are those that exist. Raises redis.RedisError.

    Ends at the first project with more than `most_keys`: they may come faster than they can be
    counted.
    """
    found = Keys()
    for batch in _batches(client):
        due = []
        for key in batch:
            match = _KEY.match(key)
            if match is None or int(match[1]) not in projects:
                found.strange_count += 1
                found.strange = [*found.strange, key[:120]][:NAMED_KEYS]
            elif is_writable(match[2]):
                pile = found.piles[int(match[1])]
                pile.keys += 1
                if pile.keys <= MEASURED_KEYS:
                    due.append((pile, key, match[2]))
        _measure(client, due)
        if any(pile.keys > most_keys for pile in found.piles.values()):
            break
    return found


def _batches(client: redis.Redis) -> Iterator[list[bytes]]:
    """All keys under Forge's prefix, as SCAN gives them: some may come twice."""
    cursor = 0
    while True:
        answer = client.scan(cursor, match=f"{PREFIX}*", count=SCAN_COUNT)
        cursor, batch = cast("tuple[int, list[bytes]]", answer)
        if batch:
            yield batch
        if cursor == 0:
            return


def _measure(client: redis.Redis, due: list[tuple[Pile, bytes, bytes]]) -> None:
    if not due:
        return
    pipeline = client.pipeline(transaction=False)
    for _, key, _ in due:
        pipeline.memory_usage(key, samples=SAMPLES)
    for (pile, _, name), size in zip(due, pipeline.execute(), strict=True):
        pile.bytes += size or 0
        if not name.endswith(b".reply.celery.pidbox"):
            pile.set_bytes += size or 0


def delete_pile(client: redis.Redis, project_id: int) -> int:
    """Delete what the project's runners may have written; returns how many keys.

    Nothing is lost by it: a worker's bindings and replies are made anew. It ends after
    DELETING_SECONDS: where the author was not seen it may go on writing as fast as is deleted
    here, and only another look can cut it off.
    """
    deleted = 0
    deadline = time.monotonic() + DELETING_SECONDS
    for batch in _batches(client):
        if time.monotonic() > deadline:
            break
        matches = [(key, _KEY.match(key)) for key in batch]
        due = [key for key, match in matches if match and _is_in(project_id, match)]
        if due:
            deleted += int(client.unlink(*due))
    return deleted


def _is_in(project_id: int, match: re.Match[bytes]) -> bool:
    return int(match[1]) == project_id and is_writable(match[2])


def weigh(client: redis.Redis) -> dict[str, float]:
    """How much each account does at this moment, in units of 64 KiB. Raises redis.RedisError.

    Where the server counts each connection's traffic (Valkey 8.1, Redis 8), two samples of that
    are the measure. Older ones are listened to with MONITOR for as long: dear, but it is asked
    only once something has gone wrong.
    """
    began = time.monotonic()
    before = read_connections(client)
    if all(connection.traffic is not None for connection in before):
        time.sleep(WEIGHING_SECONDS)
        after = read_connections(client)
        # Where this process stood still for a while, everybody has moved more.
        longer = max(1.0, (time.monotonic() - began) / WEIGHING_SECONDS)
        return _by_traffic(before, after, longer)
    heard = _listen(client)
    return _by_commands(before + read_connections(client), heard)


def _by_traffic(
    before: Iterable[Connection], after: Iterable[Connection], longer: float
) -> dict[str, float]:
    """Of samples that are so many times WEIGHING_SECONDS apart."""
    earlier = {connection.id: connection.traffic or 0 for connection in before}
    found: dict[str, float] = defaultdict(float)
    for connection in after:
        moved = ((connection.traffic or 0) - earlier.get(connection.id, 0)) / longer
        found[connection.account] += (moved + _held(connection)) / UNIT
    return found


def _by_commands(
    connections: Iterable[Connection], heard: Mapping[bytes, float]
) -> dict[str, float]:
    """From what was heard by address; a connection that was seen twice counts once."""
    found: dict[str, float] = defaultdict(float)
    for connection in {one.id: one for one in connections}.values():
        found[connection.account] += heard.get(connection.address, 0.0) + _held(connection) / UNIT
    return found


def _held(connection: Connection) -> int:
    """What lies in its buffers, beyond those that every connection has."""
    return max(connection.waiting_bytes - USUAL_BUFFERS, 0)


def _listen(client: redis.Redis) -> dict[bytes, float]:
    """Units by client address, from MONITOR: the bytes of its commands, and what they cause."""
    found: dict[bytes, float] = defaultdict(float)
    with client.monitor() as monitor:  # type: ignore[no-untyped-call]
        deadline = time.monotonic() + WEIGHING_SECONDS
        try:
            while time.monotonic() < deadline and monitor.connection.can_read(WEIGHING_SECONDS):
                match = _HEARD.match(_bytes(monitor.connection.read_response()))
                if match:
                    causes = SET_READ_UNITS if match[2].lower() == b"smembers" else COMMAND_UNITS
                    found[match[1]] += causes + len(match[0]) / UNIT
        except redis.ConnectionError:
            # The flood was more than the server keeps for a listener: what was heard is enough.
            pass
    return found
