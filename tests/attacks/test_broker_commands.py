"""Every command of the server, with one runner's token: nothing but the runner's own opens."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as some

from tests.attacks.forms import Target, categories, documented
from tests.attacks.ledger import Row
from tests.attacks.scene import Scene
from tests.attacks.thief import Thief
from tests.attacks.wire import DirectWire, Wire, command

pytestmark = pytest.mark.usefixtures("innocent")

LONG = bool(os.environ.get("FORGE_LONG"))
REFUSED_BY_BROKER = "broker_(command|key|channel|auth)"
# With the right keys these are what a worker needs; signing in anew is always tried in vain.
OWN = {"brpop", "llen", "lpush", "sadd", "srem", "smembers", "del", "publish", "psubscribe"}
OWN |= {"auth", "hello", "client|setinfo", "ping", "multi", "exec", "quit", "reset", "punsubscribe"}


def targets(forge: Scene, thief: Thief) -> list[Target]:
    """Another project's queue, a sibling's, the thief's own, and all at once."""
    other, mine = f"forge:project:{forge.innocents_project}:", thief.prefix
    control, events = "/0.celery.pidbox", "/0.celeryev/worker.heartbeat"
    return [
        Target(f"{other}tasks", f"{other}{control}", f"runner-{forge.innocent.id}"),
        Target(f"{other}_kombu.binding.celery.pidbox", f"{other}{events}", "default"),
        Target(f"{mine}tasks", f"{mine}{control}", thief.account),
        Target(f"{mine}runner-1@demo.celery.pidbox", "forge:live", "runner-*"),
        Target("*", "*", "*"),
    ]


def attempt(row: Row, wire: Wire, thief: Thief, *words: str) -> str:
    """One command that is not the thief's to send; the answer."""
    assert not thief.may(list(words)), words
    answer = wire.ask(*words)
    row.tried(words, succeeded=not (answer == "closed" or answer.startswith("-")))
    return answer


def test_every_command_of_the_server_in_all_its_forms(
    forge: Scene, thief: Thief, wire: DirectWire
) -> None:
    known = documented(forge.administrator)
    denied = set()
    with forge.attack("commands, direct", thief, REFUSED_BY_BROKER) as row:
        for entry in known:
            for target in targets(forge, thief):
                for words in entry.forms(target):
                    if thief.may(words):
                        continue
                    answer = attempt(row, wire, thief, *words)
                    # DEBUG and MODULE are closed to everybody, by the server's configuration.
                    if answer.startswith("-NOPERM") or "command not allowed" in answer:
                        denied.add(entry.name)
    # What was never denied for want of permission is the worker's own, or needs a subcommand.
    parents = {entry.name.split("|")[0] for entry in known if "|" in entry.name}
    assert {entry.name for entry in known} - denied - OWN - parents == set()
    assert len(denied) > 300


def test_every_command_of_every_category(forge: Scene, thief: Thief, wire: DirectWire) -> None:
    """As `ACL CAT` lists them, without and with too many arguments."""
    other = f"forge:project:{forge.innocents_project}:tasks"
    with forge.attack("commands by category", thief, REFUSED_BY_BROKER) as row:
        for members in categories(forge.administrator).values():
            for name in members:
                for arguments in ([], [other], [other] * 3, [other] * 9):
                    words = [*name.split("|"), *arguments]
                    if not thief.may(words) and not (name in ("hello", "auth") and not arguments):
                        attempt(row, wire, thief, *words)


def test_every_command_through_the_tunnel(forge: Scene, thief: Thief) -> None:
    wire = forge.tunnel(thief)
    choice = slice(None) if LONG else slice(0, 1)
    with forge.attack("commands, tunnel", thief, "tunnel") as row:
        for entry in documented(forge.administrator):
            for target in targets(forge, thief)[choice]:
                words = entry.words(target, full=True, choice=0)
                if not thief.may(words):
                    attempt(row, wire, thief, *words)
    wire.close()


STATE = [
    ("HELLO", "3", "AUTH", "default", "guess"),
    ("HELLO", "3", "AUTH", "default", ""),
    ("HELLO", "3", "AUTH", "runner-1", "guess", "SETNAME", "x"),
    ("HELLO", "2", "SETNAME", "x", "AUTH", "default", "guess"),
    ("AUTH", "default", "guess"),
    ("AUTH", "default", ""),
    ("AUTH", "guess"),
    ("AUTH", ""),
    ("AUTH", "runner-1\0", "guess"),
    ("AUTH", "RUNNER-1", "guess"),
    ("AUTH", "forge-probe-0", ""),
    ("SELECT", "1"),
    ("SELECT", "0"),
    ("SWAPDB", "0", "1"),
    ("MONITOR",),
    ("SYNC",),
    ("PSYNC", "?", "-1"),
    ("REPLCONF", "listening-port", "1"),
    ("READONLY",),
    ("ASKING",),
    ("DISCARD",),
    ("UNWATCH",),
    ("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "forge:"),
    ("CLIENT", "TRACKING", "ON", "REDIRECT", "1"),
    ("CLIENT", "UNBLOCK", "1", "ERROR"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("CLIENT", "KILL", "USER", "default"),
    ("CLIENT", "KILL", "ID", "1"),
    ("CLIENT", "PAUSE", "100000", "ALL"),
    ("CLIENT", "NO-EVICT", "ON"),
    ("CLIENT", "NO-TOUCH", "ON"),
    ("CLIENT", "REPLY", "OFF"),
    ("CLIENT", "REPLY", "SKIP"),
    ("CLIENT", "CACHING", "YES"),
    ("CLIENT", "SETNAME", "default"),
    ("CLIENT", "ID"),
    ("CLIENT", "LIST"),
    ("CLIENT", "GETREDIR"),
]
WORDS = """LLEN BRPOP LPUSH SADD SREM SMEMBERS DEL PUBLISH PSUBSCRIBE SUBSCRIBE GET SET EVAL EVALSHA
FCALL COPY RENAME SORT STORE GEORADIUS BITOP MIGRATE OBJECT ENCODING XADD XREADGROUP ACL SETUSER
CLIENT CONFIG KEYS SCAN 0 1 -1 * 9223372036854775808 {other}tasks {other}* {mine}tasks {mine}*
{other}_kombu.x {mine}../x forge:live"""
GOOD_AND_BAD = some.one_of(
    some.sampled_from(STATE).map(list),
    some.lists(
        some.sampled_from(WORDS.split()) | some.text(max_size=12),
        min_size=1,
        max_size=7,
    ),
)


@pytest.mark.parametrize(
    ("way", "protocol"), [("direct, RESP2", 2), ("direct, RESP3", 3), ("tunnel", 0)]
)
def test_no_connection_becomes_somebody_elses(
    way: str, protocol: int, forge: Scene, thief: Thief
) -> None:
    """Signing in as others, RESET, RESP3, and what would change or spy on other connections."""
    wire: Wire = forge.direct(thief, protocol=protocol) if protocol else forge.tunnel(thief)
    logged = "tunnel" if way == "tunnel" else REFUSED_BY_BROKER
    with forge.attack(f"state of connections, {way}", thief, logged) as row:
        for words in STATE:
            attempt(row, wire, thief, *words)
            # Whatever it was, the connection is still the thief's and opens no more than before.
            attempt(row, wire, thief, "LLEN", f"forge:project:{forge.innocents_project}:tasks")
        wire.ask("RESET")
        attempt(row, wire, thief, "LLEN", f"forge:project:{forge.innocents_project}:tasks")
    wire.close()


def test_a_transaction_or_a_pipeline_allows_no_more(
    forge: Scene, thief: Thief, wire: DirectWire
) -> None:
    with forge.attack("transactions and pipelines", thief, REFUSED_BY_BROKER) as row:
        for entry in documented(forge.administrator):
            for target in targets(forge, thief)[:2]:
                words = entry.words(target, full=True, choice=0)
                if thief.may(words) or words[0] in ("hello", "auth"):
                    continue
                answers = wire.ask_many([["MULTI"], words, ["EXEC"]])
                row.tried(["MULTI", words], succeeded=_granted(answers[1:]))
                answers = wire.ask_many([["PING"], words, ["PING"]])
                row.tried(["PING", words], succeeded=_granted(answers[1:2]))


def _granted(answers: list[str]) -> bool:
    return not all(answer == "closed" or answer.startswith("-") for answer in answers)


def test_bytes_that_are_no_commands_open_nothing(forge: Scene, thief: Thief) -> None:
    """Inline commands, HTTP, halves of commands, impossible lengths; each on a new connection."""
    key = f"forge:project:{forge.innocents_project}:tasks"
    rubbish = [
        f"LLEN {key}\r\n".encode(),
        f'"LLEN" "{key}"\r\n'.encode(),
        f"POST / HTTP/1.1\r\nHost: x\r\n\r\nLLEN {key}\r\n".encode(),
        f"*2\r\n$4\r\nllen\r\n${len(key)}\r\n{key}\r\n".encode(),
        f"*1\r\n$4\r\nPING\r\nLLEN {key}\r\n".encode(),
        b"*-1\r\n",
        b"*0\r\n" + command("LLEN", key),
        b"*1\r\n$-1\r\n",
        b"*1048577\r\n",
        b"*99999999999999999999\r\n",
        b"*2\r\n$4\r\nLLEN\r\n$99999999999\r\n",
        b"*3\r\n$4\r\nLLEN\r\n$1\r\nx\r\n$-5\r\n",
        bytes(range(256)) * 8,
        b"\0" * 70_000,
        b"A" * 70_000 + b"\r\n",
    ]
    with forge.attack("bytes that are no commands", thief, REFUSED_BY_BROKER) as row:
        for data in rubbish:
            wire = forge.direct(thief)
            assert wire.ask("PING") == "b'PONG'"
            wire.wait_no_longer_than(1)
            wire.send(data + b"\r\n" + command("LLEN", key))
            answer = wire.read()
            while answer in ("b'PONG'", "None"):
                answer = wire.read()
            # The server may also wait for the rest of what looks like a command.
            row.tried(data[:60], succeeded=_granted([answer]) and answer != "silent")
            wire.close()


@pytest.mark.parametrize("way", ["direct", "tunnel"])
def test_no_words_that_chance_puts_together_open_anything(
    way: str, forge: Scene, thief: Thief
) -> None:
    wire: Wire = forge.tunnel(thief) if way == "tunnel" else forge.direct(thief)
    other = f"forge:project:{forge.innocents_project}:"
    examples = 60 if way == "tunnel" else 400

    @hypothesis_settings(
        max_examples=examples * (20 if LONG else 1),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(sent=GOOD_AND_BAD)
    def send(sent: list[str]) -> None:
        words = [word.replace("{other}", other).replace("{mine}", thief.prefix) for word in sent]
        if not thief.may(words):
            attempt(row, wire, thief, *words)

    logged = "tunnel" if way == "tunnel" else REFUSED_BY_BROKER
    with forge.attack(f"words put together by chance, {way}", thief, logged) as row:
        send()
    wire.close()
