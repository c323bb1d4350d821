"""Who a worker is to Forge: asked before anything is begun, and told when it connects."""

from __future__ import annotations

import socket
from typing import NamedTuple

from runners.worker.client import Client
from runners.worker.host import system
from runners.worker.protocol import PROTOCOL_VERSION, VERSION, ConnectRequest, VerifyRequest


class Identity(NamedTuple):
    """account: the runner's name at the broker. folder: what its folder on this host is called."""

    account: str
    folder: str


def ask_identity(client: Client) -> Identity:
    """Which runner the token belongs to; said with every request from now on.

    Forge is asked before anything is begun: the journal, whose folder is named after the answer,
    has to be held before `connect`, or a second worker on this host would displace the first. The
    name outlives tokens and addresses. Raises as Client's methods.
    """
    found = client.verify(VerifyRequest(PROTOCOL_VERSION, VERSION))
    account = f"runner-{found.welcome.runner}"
    client.speak_as(account)
    return Identity(account, f"{account}-{found.identity[:12]}")


def introduction(session: str, instance: str, *, slots: int) -> ConnectRequest:
    """What begins a session. instance: of the journal. slots: 0, or the most that may run here."""
    return ConnectRequest(
        protocol=PROTOCOL_VERSION,
        version=VERSION,
        session=session,
        instance=instance,
        host_name=socket.gethostname()[:255],
        system=system(),
        slots=slots,
    )
