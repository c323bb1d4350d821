"""Removes a folder and everything in it, without following links and without recursion."""

from __future__ import annotations

import contextlib
import os

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# What a task may have put there deliberately: files without end, folders within folders.
_MOST_ROUNDS = 100_000


def remove_folder(path: bytes) -> None:
    """Remove it as far as it lets itself be removed; an empty path is none.

    Only to be called when no process of the task is left, so nothing moves meanwhile. What
    cannot be removed waits for the next start of the worker, which tries again.
    """
    if not path:
        return
    with contextlib.suppress(OSError):
        os.chmod(path, 0o700)
    with contextlib.suppress(OSError):
        top = os.open(path, _FOLDER)
        try:
            _empty(top)
        finally:
            os.close(top)
        os.rmdir(path)


def _empty(top: int) -> None:
    """Delete files; a folder's content is moved up to the top first, however deep it is."""
    for _ in range(_MOST_ROUNDS):
        names = os.listdir(top)
        if not names:
            return
        for name in names:
            try:
                os.unlink(name, dir_fd=top)
            except (IsADirectoryError, PermissionError):
                _remove_inner(top, name)


def _remove_inner(top: int, name: str) -> None:
    with contextlib.suppress(OSError):
        os.chmod(name, 0o700, dir_fd=top)  # nothing but folders fails to be unlinked above
    inner = os.open(name, _FOLDER, dir_fd=top)
    try:
        for child in os.listdir(inner):
            # Its own name may be taken up there.
            os.rename(child, os.urandom(12).hex(), src_dir_fd=inner, dst_dir_fd=top)
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=top)
