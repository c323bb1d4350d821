"""A worker's own half, beside a Forge that agrees to all of it; it needs no broker."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runners.worker.agent import Agent
from runners.worker.claiming import Claims
from runners.worker.client import Client
from runners.worker.configuration import Configuration
from runners.worker.protocol import (
    PROTOCOL_VERSION,
    ClaimRequest,
    ConnectReply,
    ConnectRequest,
    Heartbeat,
    HeartbeatReply,
    Job,
    Receipt,
    Report,
    ReportReply,
    VerifyReply,
    VerifyRequest,
)
from runners.worker.supervision import ForkServer
from runners.worker.tokens import TokenSource

# What the runner's folder is called.
FOLDER = "runner-1-0123456789ab"
WELCOME = ConnectReply(1, "r", "r@host", 1, "Shop", "redis://b", "forge:", ("tasks",), 1, 1)


class Forge(Client):
    """Takes the worker for the runner's, and gives it whatever it asks for."""

    script = "touch file"

    def verify(self, request: VerifyRequest) -> VerifyReply:
        return VerifyReply(WELCOME, "0123456789ab", PROTOCOL_VERSION, PROTOCOL_VERSION, None)

    def connect(self, request: ConnectRequest) -> ConnectReply:
        return WELCOME

    def heartbeat(self, request: Heartbeat, *, patience: float = 0.0) -> HeartbeatReply:
        return HeartbeatReply((), (), WELCOME.queues, WELCOME.heartbeat_seconds)

    def report(self, request: Report) -> ReportReply:
        ended = [
            Receipt(one.task, one.attempt, is_held=True, log_bytes=one.log_bytes, is_finished=True)
            for one in request.results
        ]
        return ReportReply(tuple(ended), 0.1)

    def claim(self, request: ClaimRequest) -> Job:
        return Job(request.task, request.attempt, "bash", self.script, {}, 60.0, "Shop", "Deploy")


@contextmanager
def agent_in(data: Path) -> Iterator[Agent]:
    """An agent whose runner's folder will be FOLDER in `data`; `connect` is for who needs it."""
    token = TokenSource("fgr_" + "a" * 43)
    made = Agent(Configuration("http://127.0.0.1:9", token, data))
    made.client = Forge(made.configuration)
    made.claims = Claims(
        made.client, session="s" * 16, is_draining=threading.Event(), is_leaving=threading.Event()
    )
    made.forks = ForkServer()  # of its own it would let the process of the tests adopt orphans
    try:
        yield made
    finally:
        made.close()
