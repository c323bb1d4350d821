"""The data folder: secrets that outlive a restart, and what a running quick start says of itself.

secrets.json      passwords and tokens, made once
quickstart.json   addresses, sign-in, process ids; there while it runs
lock              held by it; the number of its process
forge.sqlite3, broker/, runner/, logs/
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
from pathlib import Path
from typing import Any

from forge.quickstart.errors import InUseError, QuickStartError

LOCK = "lock"
SECRETS = "secrets.json"
PLACE = "quickstart.json"


class DataFolder:
    """One folder of mode 0700, held by one quick start at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: int | None = None

    def open(self) -> None:
        """Make the folder and hold it. Raises InUseError and QuickStartError."""
        try:
            self._make()
            self._hold()
            for name in ("broker", "logs"):
                (self.path / name).mkdir(mode=0o700, exist_ok=True)
        except BlockingIOError as error:
            raise InUseError(
                f"A quick start already runs on {self.path}{self._holder()}. Stop it, or choose "
                "another folder with --data."
            ) from error
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from error

    def _make(self) -> None:
        """Raises OSError, and QuickStartError for a folder that somebody else uses."""
        if self.path.is_dir() and not (self.path / LOCK).exists() and any(self.path.iterdir()):
            # It would be closed to everybody else, and mixed with what is there.
            raise self._unusable("it holds other files")
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)

    def _hold(self) -> None:
        """Raises BlockingIOError if another process does, and OSError."""
        lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.truncate(lock, 0)
            os.write(lock, b"%d\n" % os.getpid())
        except OSError:
            os.close(lock)
            raise
        self._lock = lock

    def _holder(self) -> str:
        """Who holds the folder, as part of a sentence."""
        try:
            return f" (process {int((self.path / LOCK).read_text())})"
        except (OSError, ValueError):
            return ""

    def _unusable(self, why: str) -> QuickStartError:
        return QuickStartError(
            f"The data folder {self.path} cannot be used: {why}. Choose another with --data."
        )

    def secrets(self) -> dict[str, Any]:
        """What was generated at the first start. Raises QuickStartError."""
        found = self._known()
        if "secrets_key" in found:
            return found
        made = {
            "secret_key": secrets.token_urlsafe(50),
            "broker_password": secrets.token_urlsafe(32),
            "password": secrets.token_urlsafe(12),
            # 32 random bytes, as FORGE_SECRETS_KEY takes them.
            "secrets_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            # A folder of an earlier version lacks only what is newer than it.
            **found,
        }
        self.write(SECRETS, made)
        return made

    def _known(self) -> dict[str, Any]:
        """What `secrets.json` says. Never made anew over a damaged one: it opens the database."""
        path = self.path / SECRETS
        try:
            found = json.loads(path.read_text()) if path.exists() else {}
        except (OSError, ValueError) as error:
            raise QuickStartError(
                f"{path} cannot be read ({error}). Put a good copy in its place, or choose another "
                "folder with --data."
            ) from error
        if not isinstance(found, dict):
            raise QuickStartError(f"{path} does not hold what the quick start wrote there.")
        return found

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Replace a JSON file of mode 0600 in one step."""
        temporary = self.path / f"{name}.new"
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(file, "w") as stream:
            json.dump(content, stream, indent=2)
            stream.write("\n")
        temporary.replace(self.path / name)

    def log(self, role: str) -> Path:
        return self.path / "logs" / f"{role}.log"

    def close(self) -> None:
        """Let go of it; what it was refused is another one's, and stays as it is."""
        if self._lock is None:
            return
        (self.path / PLACE).unlink(missing_ok=True)
        os.close(self._lock)
        self._lock = None
