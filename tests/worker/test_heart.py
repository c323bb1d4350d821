"""The heartbeat: it outlives a connection that dies, and answers that are not Forge's."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from runners.worker.client import ANSWER_TIMEOUT, Client
from runners.worker.configuration import Configuration
from runners.worker.heart import Heart
from runners.worker.journal import Journal
from runners.worker.protocol import HeartbeatReply
from runners.worker.tokens import TokenSource
from tests.deployment.client import wait_for

REPLY = HeartbeatReply((), (), ("tasks",), heartbeat_seconds=0.5).as_bytes()
# What an API gateway says, whatever it was asked: the code is none of Forge's.
GATEWAY = json.dumps({"code": 403, "message": "Blocked by policy 17."}).encode()
# What one that checks tokens of its own says: the code looks like one of Forge's.
INVALID = json.dumps({"code": "invalid_token", "message": "The access token expired."}).encode()
CREDENTIALS = json.dumps({"code": "credentials_required", "message": "No token."}).encode()
REFUSAL = json.dumps({"code": "malformed", "message": "The body is not JSON."}).encode()
REVOKED = json.dumps({"code": "unauthorized", "message": "Unknown or revoked."}).encode()
DISPLACED = json.dumps({"code": "displaced", "message": "Another worker is connected."}).encode()


# Status, body, and how many seconds it asks to be left alone for.
Answer = tuple[int, bytes] | tuple[int, bytes, int]


class Front:
    """Answers each heartbeat with the next of `answers`, and then with REPLY; None: never."""

    def __init__(self, *answers: Answer | None) -> None:
        self.heard: list[float] = []
        self._over = threading.Event()
        left = list(answers)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(handler) -> None:  # noqa: N805  # as the library wants it
                handler.rfile.read(int(handler.headers["Content-Length"]))
                self.heard.append(time.monotonic())
                said = left.pop(0) if left else (200, REPLY)
                if said is None:
                    self._over.wait()
                    return
                handler.send_response(said[0])
                handler.send_header("Content-Length", str(len(said[1])))
                for seconds in said[2:]:
                    handler.send_header("Retry-After", str(seconds))
                handler.end_headers()
                handler.wfile.write(said[1])

            def log_message(handler, *words: object) -> None:  # noqa: N805
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()


class Beating:
    """A heart that beats against a front; what came of it."""

    def __init__(self, front: Front, folder: Path, hold: float) -> None:
        self.obeyed: list[float] = []
        self.ended: list[str] = []
        journal = Journal(folder)
        journal.open()
        self.heart = Heart(
            Client(Configuration(front.url, TokenSource("fgr_" + "a" * 43), folder)),
            journal,
            "s" * 16,
            interval=0.5,
            hold=hold,
            obey=lambda reply, sent: self.obeyed.append(sent),
            revoked=lambda error: self.ended.append(error.message),
            displaced=self.ended.append,
        )
        self.heart.start()


@pytest.fixture
def beat(tmp_path: Path) -> Iterator[Callable[..., tuple[Front, Beating]]]:
    with contextlib.ExitStack() as stack:

        def start(*answers: Answer | None, hold: float = 0.0) -> tuple[Front, Beating]:
            front = Front(*answers)
            beating = Beating(front, tmp_path, hold)
            stack.callback(beating.heart.close)
            stack.callback(front.close)
            return front, beating

        yield start


Beat = Callable[..., tuple[Front, Beating]]


def is_waiting(heart: Heart | None) -> bool:
    """Whether its thread waits until it is poked, or until its time has come."""
    poke: Any = heart and heart._poke
    return bool(poke and poke._cond._waiters)


def test_a_connection_that_dies_without_a_word_is_given_up_before_forge_gives_the_runner_up(
    beat: Beat,
) -> None:
    front, beating = beat((200, REPLY), None)
    wait_for(lambda: len(beating.obeyed) >= 2, "a heartbeat arrives again")
    # With the patience that other requests have, Forge would have taken the runner for lost.
    assert front.heard[2] - front.heard[1] < ANSWER_TIMEOUT
    assert not beating.ended


def test_the_first_one_waits_until_the_worker_listens_to_its_queues(beat: Beat) -> None:
    """Forge calls the runner ready from then on."""
    front, beating = beat(hold=600.0)
    wait_for(lambda: is_waiting(beating.heart), "it waits")
    assert not front.heard
    beating.heart.poke()
    wait_for(lambda: len(beating.obeyed) >= 2, "it goes on to beat")


def test_it_does_not_wait_for_that_without_end(beat: Beat) -> None:
    _, beating = beat(hold=0.01)
    wait_for(lambda: beating.obeyed, "it beats")


@pytest.mark.parametrize("status", [503, 429])
def test_a_proxy_that_asks_to_be_left_alone_for_minutes_costs_no_runner_its_tasks(
    status: int, beat: Beat
) -> None:
    front, beating = beat((200, REPLY), *[(status, b"<html>Maintenance.</html>", 300)] * 2)
    wait_for(lambda: len(beating.obeyed) >= 2, "a heartbeat arrives again")
    assert len(front.heard) >= 4 and not beating.ended


@pytest.mark.parametrize(
    "answer",
    [
        (403, GATEWAY),
        (403, REFUSAL),
        (403, b"<html>No.</html>"),
        (401, b"<html>Sign in first.</html>"),
        (401, GATEWAY),
        (401, INVALID),
        (401, CREDENTIALS),
    ],
)
def test_a_refusal_that_does_not_tell_of_another_worker_ends_nothing(
    answer: tuple[int, bytes], beat: Beat
) -> None:
    front, beating = beat(*[answer] * 3)
    wait_for(lambda: beating.obeyed, "a heartbeat is answered by Forge")
    assert len(front.heard) >= 4 and not beating.ended


def test_a_worker_whose_token_opens_nothing_any_more_ends(beat: Beat) -> None:
    _, beating = beat((200, REPLY), (401, REVOKED))
    wait_for(lambda: beating.ended, "it ends")
    assert "does not accept this runner's token" in beating.ended[0]


def test_a_worker_whose_place_another_one_has_ends(beat: Beat) -> None:
    _, beating = beat((200, REPLY), (409, DISPLACED))
    wait_for(lambda: beating.ended, "it ends")
    assert beating.ended == ["Another worker is connected."]


@pytest.mark.parametrize("is_running", [False, True])
def test_only_where_tasks_run_it_is_said_that_they_go_on(
    is_running: bool, tmp_path: Path, beat: Beat, caplog: pytest.LogCaptureFixture
) -> None:
    if is_running:
        journal = Journal(tmp_path)
        journal.open()
        entry = journal.create(7, 1)
        assert entry is not None
        entry.open(nonce="n" * 32)
        journal.close()
    beat((503, b"Away."))
    wait_for(lambda: "answers again" in caplog.text, "Forge was away for a moment")
    assert "is in trouble" in caplog.text
    assert ("Running tasks go on" in caplog.text) == is_running
