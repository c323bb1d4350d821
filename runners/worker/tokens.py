"""The runner's token: read from a file again when the file changes, so that it can be rotated."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Collection
from pathlib import Path

import redis

from runners.worker.errors import ConfigurationError

logger = logging.getLogger(__name__)

LONGEST_SECRET = 4096
_TOKEN = re.compile(r"\Afgr_[A-Za-z0-9_-]{20,90}\Z")

_Signature = tuple[int, int, int, int]


def checked(text: str, source: str) -> str:
    """The runner token in `text`; `source` names where it came from.

    Raises ConfigurationError if it is none.
    """
    if not _TOKEN.match(text.strip()):
        raise ConfigurationError(
            f"{source} is not a runner token: they begin with fgr_ and are shown once, when a "
            "runner is added."
        )
    return text.strip()


def read_secret(file: Path, name: str) -> str:
    """What stands in the file that the variable `name` is about. Raises ConfigurationError."""
    try:
        with file.open(errors="replace") as stream:
            # Not to its end: it may be a disk, or a log.
            text = stream.read(LONGEST_SECRET + 1)
    except OSError as error:
        raise ConfigurationError(
            f"{name}: {str(file)[:200]} cannot be read: {error.strerror}."
        ) from error
    if len(text) > LONGEST_SECRET:
        raise ConfigurationError(f"{name}: {str(file)[:200]} is too large to hold a token.")
    if not text.strip():
        raise ConfigurationError(f"{name}: {str(file)[:200]} is empty.")
    return text


class TokenSource:
    """Hands out the token to use now. Thread-safe.

    A token that was given directly stays. One from a file is read again when the file was
    replaced or written (`mv new-token token-file` is a rotation), and when Forge refuses it.
    What is in the file but is no token, or is not accepted, does not displace one that is.
    """

    def __init__(
        self, token: str, file: Path | None = None, signature: _Signature | None = None
    ) -> None:
        self.file = file
        self._token = token
        self._accepted = token
        self._seen = signature
        self._lock = threading.Lock()
        # Told of each other token that Forge has taken.
        self.accepted: Callable[[str], None] = lambda token: None

    @classmethod
    def from_file(cls, file: Path, name: str) -> TokenSource:
        """Raises ConfigurationError; `name` is the variable that the file comes from."""
        signature = _signature(file)  # before it is read: a change in between is seen later
        return cls(checked(read_secret(file, name), name), file, signature)

    def __repr__(self) -> str:
        return f"TokenSource({str(self.file) if self.file else 'environment'!r})"

    def current(self) -> str:
        """The token to use for the next request or connection."""
        with self._lock:
            signature = _signature(self.file)
            if signature != self._seen:
                self._seen = signature
                self._token = self._read() or self._token
            return self._token

    def another(self, refused: Collection[str]) -> str | None:
        """A token to try instead of those that Forge refused just now; None if there is none."""
        with self._lock:
            self._seen = _signature(self.file)
            for candidate in (self._read(), self._accepted):
                if candidate is not None and candidate not in refused:
                    self._token = candidate
                    return candidate
            return None

    def accept(self, token: str) -> None:
        """Forge took this token: it is what to go back to."""
        with self._lock:
            if token != self._token or token == self._accepted:
                return
            self._accepted = token
        # As loud as other news of the kind: whoever put it there waits for this line.
        logger.warning("Forge accepts the new token from %s.", self.file)
        self.accepted(token)

    def _read(self) -> str | None:
        """The token in the file; None, with a line in the log, if there is none."""
        if self.file is None:
            return None
        try:
            return checked(read_secret(self.file, "The token file"), str(self.file))
        except ConfigurationError as error:
            logger.warning("%s The earlier token stays in use.", error.message)
            return None


def _signature(file: Path | None) -> _Signature | None:
    """What changes when the file is replaced or written; None if it is not there."""
    if file is None:
        return None
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


class BrokerCredentials(redis.CredentialProvider):
    """Account and token for a broker connection, asked for each time one is made.

    So a connection that is made again after a rotation signs in with the token of that moment.
    """

    def __init__(self, account: str, tokens: TokenSource) -> None:
        self._account = account
        self._tokens = tokens

    def get_credentials(self) -> tuple[str, str]:
        return self._account, self._tokens.current()
