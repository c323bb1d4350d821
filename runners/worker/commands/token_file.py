"""The file that holds this host's runner token, and the one it waits in until Forge knows it."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from runners.worker.errors import ConfigurationError
from runners.worker.tokens import checked, read_secret
from runners.worker.whole_file import write_whole

RANDOM_BYTES = 32


class TokenFile:
    """`path` holds a token that Forge knows, `path.pending` one that it may not know yet.

    The pending one is written before it is sent, and kept when no answer comes: the same token,
    sent again, is the same runner and costs no second use of the registration token.

    A folder that is made for it is for this user alone, unless `is_passable`: then others may pass
    through it, to what is theirs below.
    """

    def __init__(self, path: Path, *, is_passable: bool = False) -> None:
        self.path = path
        self._folder_mode = 0o711 if is_passable else 0o700
        self._pending = path.with_name(path.name + ".pending")

    def exists(self) -> bool:
        return os.path.lexists(self.path)

    def pending(self) -> str:
        """The token to register, made and written now if there is none.

        Raises ConfigurationError.
        """
        if os.path.lexists(self._pending):
            return checked(read_secret(self._pending, "The pending token"), str(self._pending))
        token = "fgr_" + secrets.token_urlsafe(RANDOM_BYTES)
        try:
            if not self.path.parent.is_dir():
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self.path.parent.chmod(self._folder_mode)  # whatever the umask says
            write_whole(self._pending, token + "\n")
        except OSError as error:
            raise self._unusable(error) from error
        return token

    def confirm(self) -> None:
        """Forge knows the pending token: it is this runner's now. Raises ConfigurationError."""
        try:
            self._pending.replace(self.path)
        except OSError as error:
            raise self._unusable(error) from error

    def drop_pending(self) -> None:
        """Forge has refused it for good: the next try makes another."""
        self._pending.unlink(missing_ok=True)

    def delete(self) -> None:
        """Raises ConfigurationError."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> ConfigurationError:
        return ConfigurationError(
            f"The token file {self.path} cannot be written: {error.strerror}. Set "
            "FORGE_RUNNER_TOKEN_FILE to a file that this user may write."
        )
