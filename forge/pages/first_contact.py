"""How far a new runner has come, and what most likely keeps it from coming further."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from urllib.parse import urlsplit

from django.conf import settings

from runners.knocks import knocks
from runners.models import BrokerContact, Runner

# A worker that goes on by itself is through with the next step before that.
NEXT_STEP = timedelta(seconds=15)
# Somebody may still be installing; after that, silence means something.
PATIENCE = timedelta(minutes=1)

Mistake = Literal["", "gone", "forge", "broker", "ended", "token", "loopback", "silence"]


@dataclass(frozen=True)
class FirstContact:
    """`reached_at`: when its token first opened Forge, as far as is known; to the minute."""

    runner: Runner
    reached_at: datetime | None
    is_ready: bool
    mistake: Mistake

    @property
    def after(self) -> timedelta | None:
        """From when its token was made until it was first heard."""
        first = self.runner.connected_at
        return first - _made_at(self.runner, until=first) if first else None


def first_contact(runner: Runner, *, now: datetime) -> FirstContact:
    token = runner.current_token
    reached_at = runner.connected_at or (token.last_used_at if token else None)
    is_ready = runner.connected_at is not None and not runner.is_silent(now=now)
    mistake: Mistake = "" if is_ready else _mistake(runner, reached_at, now)
    return FirstContact(runner, reached_at, is_ready, mistake)


def _made_at(runner: Runner, *, until: datetime) -> datetime:
    """When the newest token was made that it had at that moment: not every one is its first."""
    found = [token.created_at for token in runner.tokens.all() if token.created_at <= until]
    return max([runner.created_at, *found])


def _mistake(runner: Runner, reached_at: datetime | None, now: datetime) -> Mistake:
    """What is known comes before what is likely."""
    if runner.last_heartbeat_at is not None:
        return "gone"
    if reached_at is not None:
        if now - reached_at < NEXT_STEP:
            return ""
        if runner.connected_at is None:
            return "ended"
        return "broker" if BrokerContact.trouble() is None else "forge"
    made_at = _made_at(runner, until=now)
    last = knocks.last()
    if last is not None and now - last > made_at:
        return "token"
    if now - made_at < PATIENCE:
        return ""
    return "loopback" if is_loopback(settings.FORGE_URL) else "silence"


def is_loopback(url: str) -> bool:
    """Whether only this very machine finds Forge there."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
