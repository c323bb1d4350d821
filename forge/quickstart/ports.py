"""Free ports of this host."""

from __future__ import annotations

import errno
import random
import socket

from forge.quickstart.errors import QuickStartError

HIGHEST = 65535
# Below what Linux and macOS hand out to outgoing connections: a port of theirs may be free now and
# in use a moment later, when the process that was given it comes to listen.
_QUIET = range(20_000, 32_768)


def _try(host: str, port: int) -> None:
    """Raises OSError if nothing can listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


def is_free(host: str, port: int) -> bool:
    try:
        _try(host, port)
    except OSError:
        return False
    return True


def any_free() -> int:
    for port in random.sample(_QUIET, 100):
        if is_free("127.0.0.1", port):
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def choose(host: str, port: int, *, is_given: bool) -> int:
    """`port`, or the next free one if nobody asked for it; 0 is any. Raises QuickStartError."""
    if not 0 <= port <= HIGHEST:
        raise QuickStartError(
            f"There is no port {port}. Choose one up to {HIGHEST} with --port (0: any free one)."
        )
    _check_host(host)
    if port == 0:
        return any_free()
    if is_free(host, port):
        return port
    if is_given:
        raise QuickStartError(_why_not(host, port))
    following = range(port + 1, min(port + 100, HIGHEST + 1))
    return next((near for near in following if is_free(host, near)), any_free())


def _check_host(host: str) -> None:
    try:
        _try(host, 0)
    except (OSError, UnicodeError) as error:
        raise QuickStartError(
            f"--host {host!r} is no IPv4 address or name of this machine "
            f"({getattr(error, 'strerror', None) or error})."
        ) from error


def _why_not(host: str, port: int) -> str:
    try:
        _try(host, port)
    except PermissionError:
        return f"Port {port} is not for this user. Choose one above 1023 with --port."
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            return f"Port {port} cannot be used: {error.strerror}. Choose another with --port."
    return f"Port {port} is taken. Free it, or choose another with --port (0: any free one)."
