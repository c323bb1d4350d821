"""Free ports of this host's loopback."""

from __future__ import annotations

import socket

from forge.quickstart.errors import QuickStartError


def is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def any_free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def choose(host: str, port: int, *, is_given: bool) -> int:
    """`port`, or the next free one if nobody asked for it; 0 is any. Raises QuickStartError."""
    if port == 0:
        return any_free()
    if is_free(host, port):
        return port
    if is_given:
        raise QuickStartError(
            f"Port {port} is taken. Free it, or choose another with --port (0: any free one)."
        )
    return next((near for near in range(port + 1, port + 100) if is_free(host, near)), any_free())
