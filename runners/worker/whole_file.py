"""Files that are there whole or not at all, and that only this user can read."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Replace the file in one step, so that a crash leaves the old or the new one.

    Mode 0600 from its first moment. Raises OSError.
    """
    temporary = path.with_name(path.name + ".new")
    # Not through a link that somebody else put there: the text may be a secret.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    file = os.open(temporary, flags, 0o600)
    with os.fdopen(file, "w") as stream:
        os.fchmod(stream.fileno(), 0o600)
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
