"""Messages that are malformed, oversized or too many, of every kind that the protocol knows."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as some

from runners.worker import protocol
from runners.worker.fields import Message
from tests.attacks.scene import Scene
from tests.attacks.thief import Thief
from tests.deployment.client import wait_for

pytestmark = pytest.mark.usefixtures("innocent")

LONG = bool(os.environ.get("FORGE_LONG"))
EXAMPLES = 2000 if LONG else 40
REQUESTS: dict[str, type[Message]] = {
    "connect": protocol.ConnectRequest,
    "claim": protocol.ClaimRequest,
    "report": protocol.Report,
    "heartbeat": protocol.Heartbeat,
    "verify": protocol.VerifyRequest,
    "unregister": protocol.UnregisterRequest,
}
SESSION = "thief-session-0123456789"
EDGES: list[Any] = [0, -1, 1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63), 10**30]
EDGES += [None, [], {}, "", "\0", [[]], True, "x" * 3000, 0.5]
# What json.dumps would not write as it is.
LITERALS = ["NaN", "Infinity", "-Infinity", "1e400", "-0.0", "1E5", "9" * 5000, '"\\ud800"', "\\"]
HELD = {"task": 1, "attempt": 1}
STARTED = {**HELD, "age_seconds": 0.0}
PIECE = {**HELD, "offset": 0, "data": "eA==", "ages": [[0, 0.5]]}
RESULT = {
    **HELD,
    "outcome": "failed",
    "exit_code": 1,
    "reason": "forged",
    "log_bytes": 0,
    "log_sha256": "0" * 64,
    "age_seconds": 0.0,
    "is_cut_short": False,
    "log_written_bytes": 1,
    "log_gap_offset": None,
    "log_gap_bytes": 0,
    "log_problem": "",
    "nonce": "n" * 16,
    "run_seconds": 0.5,
}
OVERFLOW = {**HELD, "gap_offset": 0, "written_bytes": 1}
GOOD: dict[str, dict[str, Any]] = {
    "connect": {
        "protocol": 1,
        "version": "0.1.0",
        "session": SESSION,
        "instance": "thief-instance-0123456789",
        "host_name": "thief",
        "system": "Debian",
        "slots": 2,
    },
    "claim": {
        "task": 1,
        "attempt": 1,
        "nonce": "n" * 16,
        "keeps_leases": True,
        "is_draining": False,
        "session": SESSION,
    },
    "report": {
        "started": [STARTED],
        "pieces": [PIECE],
        "results": [RESULT],
        "overflows": [OVERFLOW],
    },
    "heartbeat": {
        "session": SESSION,
        "held": [HELD],
        "is_leaving": False,
        "is_draining": False,
        "trouble": "The journal cannot be written: No space left on device",
    },
    "verify": {"protocol": 1, "version": "0.1.0"},
    "unregister": {"host_name": "thief"},
}

_JSON = some.recursive(
    some.none()
    | some.booleans()
    | some.integers()
    | some.sampled_from(EDGES)
    | some.floats()
    | some.text(max_size=40),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(), inner, max_size=3),
    max_leaves=8,
)


def _places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in a message: the message itself, its fields, items, and theirs."""
    found = [place]
    items: Any = value.items() if isinstance(value, dict) else ()
    for key, item in enumerate(value) if isinstance(value, list) else items:
        found += _places(item, (*place, key))
    return found


def _with(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    """A copy with something else at this place."""
    if not place:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = _with(copy[place[0]], place[1:], new)
    return copy


def test_the_good_messages_have_every_field_that_the_protocol_knows() -> None:
    """So that what is bent below is all of it."""
    for path, kind in REQUESTS.items():
        names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
        assert names == GOOD[path].keys()
        kind.parse(json.dumps(GOOD[path]).encode())
    for kind, good in (
        (protocol.Started, STARTED),
        (protocol.Piece, PIECE),
        (protocol.Result, RESULT),
        (protocol.Overflow, OVERFLOW),
        (protocol.TaskRef, HELD),
    ):
        assert {field.name for field in dataclasses.fields(kind)} == good.keys()


def is_wrong(answer: requests.Response) -> bool:
    """An error of the server's, or a refusal without a sentence."""
    if answer.status_code >= 500:
        return True
    return not answer.ok and not answer.json()["message"]


class Gang:
    """Thieves one after the other: another one when the quota of the last is used up."""

    def __init__(self, forge: Scene, first: Thief) -> None:
        self._forge = forge
        self._thief = first
        self._thief.connect()

    def send(self, path: str, body: bytes) -> requests.Response:
        answer = self._thief.send(path, body)
        # 401: it has just unregistered itself.
        if answer.status_code not in (429, 401):
            return answer
        self._thief = self._forge.steal("gang")
        self._thief.connect()
        return self._thief.send(path, body)


@pytest.mark.parametrize("path", REQUESTS)
def test_a_message_bent_in_any_place_breaks_nothing(path: str, forge: Scene, thief: Thief) -> None:
    """Each field of each kind in turn: at the edge of numbers, of another type, by chance."""
    gang = Gang(forge, thief)
    good = GOOD[path]
    places = _places(good)

    @hypothesis_settings(
        max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(place=some.sampled_from(places), new=_JSON)
    def send(place: tuple[Any, ...], new: Any) -> None:
        body = json.dumps(_with(good, place, new)).encode()
        row.tried(body, succeeded=is_wrong(gang.send(path, body)))

    with forge.attack(f"bent messages, {path}", thief, "malformed") as row:
        for turn, place in enumerate(places):
            # All in the long form; a part in each place, and another in the next, in the short.
            for edge in EDGES if LONG else EDGES[turn % 4 :: 4]:
                body = json.dumps(_with(good, place, edge)).encode()
                row.tried(body, succeeded=is_wrong(gang.send(path, body)))
            for literal in LITERALS if LONG else LITERALS[turn % 4 :: 4]:
                text = json.dumps(_with(good, place, "HERE")).replace('"HERE"', literal)
                row.tried(text, succeeded=is_wrong(gang.send(path, text.encode())))
        send()


class Holder:
    """A thief that holds a task of its own project, so that no fence keeps its lies away."""

    def __init__(self, forge: Scene) -> None:
        self._forge = forge
        self._take()

    def _take(self) -> None:
        self.thief = self._forge.steal("holder")
        self.thief.connect()
        self._take_task()

    def _take_task(self) -> None:
        self.task = self._forge.api.run_script(self.thief.project, "true")
        assert self.thief.claim(self.task).ok

    def send(self, place: tuple[Any, ...], new: Any) -> requests.Response:
        """One report of all kinds of news about its task, with something else in one place."""
        good = json.loads(json.dumps(GOOD["report"]).replace('"task": 1', f'"task": {self.task}'))
        answer = self.thief.send("report", json.dumps(_with(good, place, new)).encode())
        if answer.status_code == 429:
            self._take()
            return self.send(place, new)
        if answer.ok and not all(one["is_held"] for one in answer.json()["receipts"]):
            self._take_task()
        return answer


def test_lies_about_a_task_that_the_thief_does_hold_break_nothing(forge: Scene) -> None:
    """Whoever may write the row writes nothing that the database or a page cannot bear."""
    holder = Holder(forge)
    places = [place for place in _places(GOOD["report"]) if place]
    first = holder.thief
    first.send("report", b"lies")

    @hypothesis_settings(
        max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(place=some.sampled_from(places), new=_JSON)
    def send(place: tuple[Any, ...], new: Any) -> None:
        row.tried((place, new), succeeded=is_wrong(holder.send(place, new)))

    with forge.attack("lies about a task of its own", first, "malformed") as row:
        for turn, place in enumerate(places):
            for edge in EDGES if LONG else EDGES[turn % 2 :: 2]:
                row.tried((place, edge), succeeded=is_wrong(holder.send(place, edge)))
        send()
        path = f"projects/{forge.thiefs_project}/tasks/?page_size=200"
        for task in forge.api.get(path)["results"]:
            assert forge.api.send("GET", f"tasks/{task['id']}/").ok
            assert forge.api.send("GET", f"tasks/{task['id']}/log").ok


def _deep(path: str) -> bytes:
    return b"[" * 200_000 + b"]" * 200_000


def _duplicates(path: str) -> bytes:
    """Keys twice, the second one hostile."""
    inner = json.dumps(GOOD[path])[1:-1]
    return f'{{{inner}, "task": -1, "session": 5, {inner}, "protocol": "x"}}'.encode()


def _many_items(path: str) -> bytes:
    lists = {name: value * 100_000 for name, value in GOOD[path].items() if isinstance(value, list)}
    return json.dumps({**GOOD[path], **(lists or {"version": "x" * 3_000_000})}).encode()


def _many_keys(path: str) -> bytes:
    return json.dumps({**GOOD[path], **{f"k{number}": 0 for number in range(150_000)}}).encode()


def _too_large(path: str) -> bytes:
    return b" " * (5 * 1024 * 1024)


def _utf16(path: str) -> bytes:
    return json.dumps({**GOOD[path], "version": 5, "session": 5, "nonce": 5}).encode("utf-16")


HEAVY: list[Callable[[str], bytes]] = [_deep, _duplicates, _many_items, _many_keys, _too_large]
HEAVY += [_utf16]


# A good message of the other kind ends the thief's part: its runner is gone.
LASTING = [path for path in REQUESTS if path != "unregister"]


@pytest.mark.parametrize("path", LASTING)
def test_an_oversized_message_is_refused(path: str, forge: Scene, thief: Thief) -> None:
    """Deep, long, wide, larger than any; also packed, and without a length."""
    thief.connect()
    with forge.attack(f"oversized messages, {path}", thief, "malformed|too_many_.*") as row:
        for make in HEAVY:
            body = make(path)
            row.tried(make.__name__, succeeded=is_wrong(thief.send(path, body)))
        bomb = gzip.compress(b" " * 100_000_000)
        answer = thief.send(path, bomb, **{"Content-Encoding": "gzip"})
        row.tried("a gzip bomb", succeeded=answer.status_code not in (400, 413, 429))
        for name in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            answer = thief.send(path, b"--x\r\n" * 50_000, **{"Content-Type": name})
            row.tried(name, succeeded=answer.status_code not in (400, 413, 429))
        row.tried("endless chunks", succeeded=_endless(thief, path) not in (413, 0))


def _endless(thief: Thief, path: str) -> int:
    """The status, or 0 if the server ended the connection while chunks still came."""

    def chunks() -> Any:
        for _ in range(1000):
            yield b" " * 65536

    url = f"{thief.url}/runner/v1/{path}"
    try:
        return requests.post(url, data=chunks(), headers=thief.headers, timeout=60).status_code
    except requests.ConnectionError:
        return 0


@pytest.mark.parametrize("path", LASTING)
def test_too_many_messages_get_429_and_others_are_served(
    path: str, forge: Scene, thief: Thief
) -> None:
    thief.connect()
    other = forge.steal("bystander", thief.project)
    body = json.dumps(GOOD[path]).encode()
    with forge.attack(f"too many messages, {path}", thief, "too_many_.*") as row:
        statuses: list[int] = []

        def is_too_many() -> bool:
            """A machine with much to do may answer more slowly than the quota is refilled."""
            with ThreadPoolExecutor(4) as pool:
                statuses.extend(pool.map(lambda _: thief.send(path, body).status_code, range(250)))
            return 429 in statuses

        wait_for(is_too_many, "it is told that these are too many")
        for status in statuses:
            row.tried(status, succeeded=status >= 500)
        assert other.connect()


@pytest.fixture(scope="module")
def registration(forge: Scene) -> tuple[int, str]:
    """A stolen registration token, for a project in which nobody works."""
    project = forge.api.project("Registering")
    ends = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    made = forge.api.post(
        f"projects/{project}/registration-tokens/", name="stolen", expires_at=ends, max_uses=3
    )
    return project, str(made["token"])


_REGISTRATION = {
    "protocol": some.just(1),
    "version": some.text(max_size=50),
    "digest": some.one_of(
        some.from_regex(r"\A[0-9a-f]{64}\Z"), some.text(max_size=70), some.integers()
    ),
    "host_name": some.text(max_size=300),
    "system": some.text(max_size=130),
    "name": some.one_of(some.none(), some.text(max_size=70)),
}


def test_no_registration_breaks_the_server_or_gets_more_runners_than_allowed(
    registration: tuple[int, str], forge: Scene, thief: Thief
) -> None:
    project, token = registration
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{forge.web_url}/runner/v1"

    @hypothesis_settings(
        max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(body=some.one_of(some.binary(max_size=300), _REGISTRATIONS, _JSON.map(json.dumps)))
    def send(body: bytes | str) -> None:
        answer = requests.post(f"{url}/register", data=body, headers=headers, timeout=30)
        odd = answer.status_code not in (200, 400, 403, 409, 429)
        row.tried(body, succeeded=odd or is_wrong(answer))

    with forge.attack("registrations", thief, "") as row:
        send()
        assert forge.api.get(f"projects/{project}/runners/")["count"] <= 3
        for path in REQUESTS:
            answer = requests.post(f"{url}/{path}", data=b"{}", headers=headers, timeout=30)
            row.tried(path, succeeded=answer.status_code not in (401, 429))
        answer = requests.get(f"{forge.web_url}/api/v1/projects/", headers=headers, timeout=30)
        row.tried("projects", succeeded=answer.status_code not in (401, 403))


_REGISTRATIONS = some.fixed_dictionaries(_REGISTRATION).map(json.dumps)
