"""What a worker says of the host it is on."""

from __future__ import annotations

import platform
import socket
import sys
from contextlib import suppress
from pathlib import Path

LONGEST_SYSTEM = 120


def system() -> str:
    """`Debian GNU/Linux 12 (bookworm) x86_64, Python 3.11.2`."""
    text = f"{_name()} {platform.machine()}, Python {platform.python_version()}"
    return text[:LONGEST_SYSTEM]


def _name() -> str:
    if sys.platform != "linux":
        return platform.platform(terse=True)
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


def boot() -> str:
    """What tells this start of the host from all others; empty where that cannot be known."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def host() -> str:
    """What tells this host from others, and stays over its restarts: its machine id and its name.

    Either alone is not enough: clones and containers may share an id, and a name is quickly given.
    """
    number = ""
    with suppress(OSError, ValueError):
        number = Path("/etc/machine-id").read_text().strip()
    return f"{number} {socket.gethostname()}"
