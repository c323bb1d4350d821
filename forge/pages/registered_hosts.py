"""Beside a new registration token: the hosts that it has let in, and how far each has come."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from django.conf import settings

from forge.pages.first_contact import PATIENCE, FirstContact, first_contact, is_loopback
from projects.words import counted, number
from runners.knocks import registration_knocks
from runners.models import RegistrationToken, Runner
from runners.status import RegistrationStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

# The newest of them; the list of runners has all.
MAXIMUM = 20
# What keeps a host that has reached Forge, as it did to register, from taking tasks.
_LASTS = {
    "gone": "was here, and is gone",
    "forge": "in, but Forge has lost the broker",
    "broker": "does not reach the broker",
    "ended": "its worker has ended, or waits for you",
}
_NOT_STARTED = "registered, but no worker has come since"

Mistake = Literal["", "token", "loopback", "silence"]


@dataclass(frozen=True)
class Host:
    """One runner that the token made; `trouble` is empty while nothing is wrong yet."""

    runner: Runner
    first: FirstContact

    @property
    def is_ready(self) -> bool:
        return self.first.is_ready

    @property
    def trouble(self) -> str:
        return _LASTS.get(self.first.mistake, _NOT_STARTED) if self.first.mistake else ""


@dataclass(frozen=True)
class RegisteredHosts:
    """`mistake` is what most likely keeps the first host away; empty once one is there.

    newest: at most MAXIMUM of them.
    """

    token: RegistrationToken
    newest: Sequence[Host]
    count: int
    mistake: Mistake
    is_open: bool

    @property
    def is_good(self) -> bool:
        """Nothing is left to wait for: no further host can come, and each that came is ready."""
        is_all = self.count == len(self.newest)
        return bool(self.newest) and not self.is_open and is_all and not self.waiting

    @property
    def waiting(self) -> int:
        """How many of the newest are not ready."""
        return sum(not host.is_ready for host in self.newest)

    @property
    def is_unsure(self) -> bool:
        return bool(self.mistake) or any(host.trouble for host in self.newest)

    @property
    def title(self) -> str:
        if not self.newest:
            return "Waiting for the first host…" if self.is_open else "No host has registered"
        if self.is_good:
            first = self.newest[0].runner
            return f"{first} is ready" if self.count == 1 else f"All {self.count} hosts are ready"
        return f"{number(self.count)} of {counted(self.token.max_uses, 'host')} registered"

    @property
    def sentence(self) -> str:
        if self.is_good:
            return "The token lets in no other."
        notices = "This page notices by itself."
        if not self.newest:
            return notices if self.is_open else "The token does not work any more."
        are = "is" if self.waiting == 1 else "are"
        ready = f"{number(self.waiting)} {are} not ready yet." if self.waiting else "All are ready."
        if self.count > len(self.newest):
            ready = f"The newest {number(len(self.newest))} are shown. {ready}"
        return f"{ready} {notices}"


def registered_hosts(token: RegistrationToken, *, now: datetime) -> RegisteredHosts:
    rows = token.runners.filter(removed_at=None)
    rows = rows.select_related("project").prefetch_related("tokens")
    count = rows.count()
    newest = [Host(row, first_contact(row, now=now)) for row in rows.order_by("-pk")[:MAXIMUM]]
    is_open = token.status_at(now) == RegistrationStatus.ACTIVE
    mistake: Mistake = "" if newest or not is_open else _mistake(token, now)
    return RegisteredHosts(token, newest, count, mistake, is_open)


def _mistake(token: RegistrationToken, now: datetime) -> Mistake:
    last = registration_knocks.last()
    if last is not None and now - last > token.created_at:
        return "token"
    if now - token.created_at < PATIENCE:
        return ""
    return "loopback" if is_loopback(settings.FORGE_URL) else "silence"
