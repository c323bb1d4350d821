"""What a runner host tells its worker: an address, a token, a folder, all by environment."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from runners.worker.errors import ConfigurationError
from runners.worker.task_users import TaskUser, task_users
from runners.worker.tokens import TokenSource, checked, read_secret

_REGISTRATION_TOKEN = re.compile(r"\Afgt_[A-Za-z0-9_-]{20,90}\Z")
# urlsplit passes over some of them, and others would take it to be a different address.
_NOT_IN_ADDRESSES = re.compile(r"[\x00-\x20\x7f\\]|\s")
TOKEN_FILE = "token"  # noqa: S105  # a name, in the data folder
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
class Trust:
    """PEM files: `ca_file` replaces the system's authorities; a client certificate, its key."""

    ca_file: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Trust:
        """Forge's own variables, or the one that many hosts set for requests already."""
        return cls(
            environment.get("FORGE_CA_FILE") or environment.get("REQUESTS_CA_BUNDLE") or None,
            environment.get("FORGE_CLIENT_CERT") or None,
            environment.get("FORGE_CLIENT_KEY") or None,
        )


@dataclass(frozen=True)
class Configuration:
    """`url` without a trailing slash; `data` is where journals live, one folder a runner.

    With `task_users`, each running task has one of them for itself.
    """

    url: str
    tokens: TokenSource
    data: Path
    trust: Trust = Trust()
    task_users: tuple[TaskUser, ...] = ()

    @property
    def token(self) -> str:
        """The token to use now; another one after a rotation."""
        return self.tokens.current()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Configuration:
        """Raises ConfigurationError with a sentence that says what to set."""
        users = task_users(environment.get("FORGE_RUNNER_TASK_USERS", ""))
        url, data = forge_url(environment), data_folder(environment)
        return cls(
            url=url,
            tokens=_tokens(environment, data),
            data=data,
            trust=Trust.from_environment(environment),
            task_users=users,
        )


def forge_url(environment: Mapping[str, str]) -> str:
    """The address of Forge, without a slash at its end. Raises ConfigurationError."""
    text = environment.get("FORGE_URL", "").strip()
    if not text:
        raise ConfigurationError("FORGE_URL is not set. Give the address of Forge.")
    # A password in it is not for the terminal.
    shown = repr(text[:100]) if "@" not in text else "what it holds"
    try:
        parts = urlsplit(text)
        is_address = _is_address(text, parts)
    except ValueError as error:  # brackets that do not close, a port that is no number
        raise ConfigurationError(
            f"FORGE_URL is not an http(s) address: {shown} ({error})."
        ) from error
    if not is_address:
        raise ConfigurationError(f"FORGE_URL is not an http(s) address: {shown}.")
    if "@" in parts.netloc or "?" in text or "#" in text:
        raise ConfigurationError("FORGE_URL must not hold a user, a query or a fragment.")
    if parts.scheme == "http":
        require_loopback("FORGE_URL", "http://", parts.hostname or "", "https://")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _is_address(text: str, parts: SplitResult) -> bool:
    """Whether something could answer there. Raises ValueError, as `parts.port` does."""
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host or parts.port == 0:
        return False
    if _NOT_IN_ADDRESSES.search(text):
        return False
    if ":" in host:
        ipaddress.ip_address(host)
        return True
    try:
        host.encode("idna")
    except UnicodeError:  # a label that is empty or too long
        return False
    return True


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


def _tokens(environment: Mapping[str, str], data: Path) -> TokenSource:
    """The token itself, or the file that holds it: one that is named, or the default one."""
    file = environment.get("FORGE_RUNNER_TOKEN_FILE", "")
    if file:
        name = "FORGE_RUNNER_TOKEN_FILE"
        return TokenSource.from_file(_path(file, name), name)
    text = environment.get("FORGE_RUNNER_TOKEN", "")
    if text:
        return TokenSource(checked(text, "FORGE_RUNNER_TOKEN"))
    default = data / TOKEN_FILE
    if _may_be_there(default):
        return TokenSource.from_file(default, str(default))
    raise ConfigurationError(
        f"FORGE_RUNNER_TOKEN is not set, nor FORGE_RUNNER_TOKEN_FILE, and {default} is not there. "
        "Forge shows a runner's token when it is added; with a registration token, "
        "`python -m runners.worker register` gets one."
    )


def _may_be_there(file: Path) -> bool:
    """True too where a folder above it may not be searched: who reads it then is told so."""
    try:
        file.lstat()
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def registration_token(environment: Mapping[str, str]) -> str:
    """The token that a host registers with; never on the command line, where `ps` shows it.

    Raises ConfigurationError.
    """
    file = environment.get("FORGE_REGISTRATION_TOKEN_FILE", "")
    name = "FORGE_REGISTRATION_TOKEN_FILE" if file else "FORGE_REGISTRATION_TOKEN"
    text = environment.get("FORGE_REGISTRATION_TOKEN", "")
    if file:
        text = read_secret(_path(file, name), name)
    if not text:
        raise ConfigurationError(
            "FORGE_REGISTRATION_TOKEN is not set, nor FORGE_REGISTRATION_TOKEN_FILE. A manager "
            "of the project makes a registration token in Forge."
        )
    if not _REGISTRATION_TOKEN.match(text.strip()):
        raise ConfigurationError(
            f"{name} is not a registration token: they begin with fgt_ and are shown once."
        )
    return text.strip()


def token_file(environment: Mapping[str, str]) -> Path:
    """Where `register` keeps the runner token, and a worker finds it."""
    file = environment.get("FORGE_RUNNER_TOKEN_FILE", "")
    if file:
        return _path(file, "FORGE_RUNNER_TOKEN_FILE").absolute()
    return data_folder(environment) / TOKEN_FILE


def _path(text: str, name: str) -> Path:
    """The path that the variable `name` gives. Raises ConfigurationError."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # ~somebody, whom this host does not know
        raise ConfigurationError(f"{name}: {text[:200]} has no home folder here.") from error


def data_folder(environment: Mapping[str, str]) -> Path:
    """Where this host keeps journals and, by default, its token. Raises ConfigurationError."""
    given = environment.get("FORGE_RUNNER_DATA", "")
    if given:
        return _path(given, "FORGE_RUNNER_DATA").absolute()
    if environment.get("FORGE_RUNNER_TASK_USERS"):
        return SHARED_DATA  # root's home is closed to the users that tasks run as
    state = environment.get("XDG_STATE_HOME", "")
    base = Path(state) if state else _path("~/.local/state", "FORGE_RUNNER_DATA")
    return base / "forge-runner"
