"""What a runner host tells its worker: an address, a token, a folder, all by environment."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from runners.worker.errors import ConfigurationError
from runners.worker.task_users import TaskUser, task_users

_TOKEN = re.compile(r"\Afgr_[A-Za-z0-9_-]{20,90}\Z")
SHARED_DATA = Path("/var/lib/forge-runner")
# Celery reads these by itself and lets them win over what Forge says.
OVERRIDING_VARIABLES = (
    "CELERY_BROKER_URL",
    "CELERY_RESULT_BACKEND",
    "BROKER_URL",
    "RESULT_BACKEND",
    "CELERY_CONFIG_MODULE",
    "CELERY_LOADER",
)


@dataclass(frozen=True)
class Configuration:
    """`url` without a trailing slash; `data` is where journals live, one folder a runner.

    `ca_file` replaces the system's authorities; client certificate and key are PEM files.
    With `task_users`, each running task has one of them for itself.
    """

    url: str
    token: str = field(repr=False)
    data: Path
    ca_file: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    task_users: tuple[TaskUser, ...] = ()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Configuration:
        """Raises ConfigurationError with a sentence that says what to set."""
        users = task_users(environment.get("FORGE_RUNNER_TASK_USERS", ""))
        return cls(
            url=_url(environment.get("FORGE_URL", "")),
            token=_token(environment),
            data=_data_folder(environment, is_shared=bool(users)),
            ca_file=_ca_file(environment),
            client_certificate=environment.get("FORGE_CLIENT_CERT") or None,
            client_key=environment.get("FORGE_CLIENT_KEY") or None,
            task_users=users,
        )


def _ca_file(environment: Mapping[str, str]) -> str | None:
    """Forge's own variable, or the one that many hosts set for requests already."""
    return environment.get("FORGE_CA_FILE") or environment.get("REQUESTS_CA_BUNDLE") or None


def _url(text: str) -> str:
    if not text:
        raise ConfigurationError("FORGE_URL is not set. Give the address of Forge.")
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"FORGE_URL is not an http(s) address: {text[:100]!r}.")
    if parts.username or parts.query or parts.fragment:
        raise ConfigurationError("FORGE_URL must not hold a user, a query or a fragment.")
    if parts.scheme == "http":
        require_loopback("FORGE_URL", "http://", parts.hostname, "https://")
    return text.rstrip("/")


def require_loopback(what: str, scheme: str, host: str, better: str) -> None:
    """Raise ConfigurationError for a plain-text address that leaves this host."""
    if is_loopback(host) or os.environ.get("FORGE_ALLOW_PLAINTEXT") == "1":
        return
    raise ConfigurationError(
        f"{what} is {scheme}{host}, which would send the token in clear text. Use {better}, "
        "or set FORGE_ALLOW_PLAINTEXT=1 if the network is trusted."
    )


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _token(environment: Mapping[str, str]) -> str:
    """The token itself, or what stands in the file that FORGE_RUNNER_TOKEN_FILE names."""
    file = environment.get("FORGE_RUNNER_TOKEN_FILE", "")
    name = "FORGE_RUNNER_TOKEN_FILE" if file else "FORGE_RUNNER_TOKEN"
    text = _read_token(file) if file else environment.get("FORGE_RUNNER_TOKEN", "")
    if not text:
        raise ConfigurationError(
            "FORGE_RUNNER_TOKEN is not set, nor FORGE_RUNNER_TOKEN_FILE. Forge shows a runner's "
            "token when it is added."
        )
    if not _TOKEN.match(text.strip()):
        raise ConfigurationError(
            f"{name} is not a runner token: they begin with fgr_ and are shown once, when a "
            "runner is added."
        )
    return text.strip()


def _read_token(file: str) -> str:
    try:
        text = Path(file).expanduser().read_text(errors="replace")
    except OSError as error:
        raise ConfigurationError(
            f"FORGE_RUNNER_TOKEN_FILE: {file[:200]} cannot be read: {error.strerror}."
        ) from error
    if not text.strip():
        raise ConfigurationError(f"FORGE_RUNNER_TOKEN_FILE: {file[:200]} is empty.")
    return text


def _data_folder(environment: Mapping[str, str], *, is_shared: bool) -> Path:
    given = environment.get("FORGE_RUNNER_DATA", "")
    if given:
        return Path(given).expanduser().absolute()
    if is_shared:
        return SHARED_DATA  # root's home is closed to the users that tasks run as
    state = environment.get("XDG_STATE_HOME", "")
    base = Path(state) if state else Path("~/.local/state").expanduser()
    return base / "forge-runner"
