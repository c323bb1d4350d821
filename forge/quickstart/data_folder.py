"""The data folder: secrets that outlive a restart, and what a running quick start says of itself.

secrets.json      passwords and tokens, made once
quickstart.json   addresses, sign-in, process ids; there while it runs
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


class DataFolder:
    """One folder of mode 0700, held by one quick start at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: int | None = None

    def open(self) -> None:
        """Make the folder and hold it. Raises InUseError and QuickStartError."""
        try:
            for folder in (self.path, self.path / "broker", self.path / "logs"):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.chmod(0o700)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InUseError(
                f"A quick start already runs on {self.path}. Stop it, or choose another folder "
                "with --data."
            ) from error
        except OSError as error:
            raise QuickStartError(
                f"The data folder {self.path} cannot be used: {error.strerror}. Choose another "
                "with --data."
            ) from error

    def secrets(self) -> dict[str, Any]:
        """What was generated at the first start."""
        path = self.path / "secrets.json"
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
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
        self.write("secrets.json", made)
        return made

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
        (self.path / "quickstart.json").unlink(missing_ok=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
