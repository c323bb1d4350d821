"""Removes a folder and everything in it, without following links and without recursion.

What is mounted in it, or on it, is somebody else's, and stays as it is: who was killed unmounts
nothing.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Iterator

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PLACE = os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
# What a task may have put there deliberately: files without end, folders within folders.
_MOST_ROUNDS = 100_000
# Names that are held at a time: those of millions of files take more memory than a service may get.
_PORTION = 10_000


def remove_folder(path: bytes) -> None:
    """Remove it as far as it lets itself be removed; an empty path is none. Raises nothing.

    To be called when no process of the task is left, so nothing moves meanwhile; one that is left
    all the same can keep something there, and leads nobody out of the folder. What cannot be
    removed waits for the next start of the worker, which tries again.
    """
    if not path:
        return
    with contextlib.suppress(OSError):
        place, name = os.path.split(path.rstrip(b"/"))
        parent = os.open(place or b".", _PLACE)
        try:
            _remove(name, parent)
        finally:
            os.close(parent)


def _remove(name: bytes, parent: int) -> None:
    top = _open(name, parent)
    try:
        _empty(top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent)


def _open(name: bytes | str, within: int) -> int:
    """A folder, for its content to be deleted.

    Raises OSError, also for a link to one, and where something is mounted on the one in `within`.
    """
    # Nothing is asked of what it is on before that is known: a server that is gone never answers.
    place = _find(name, within)
    try:
        if _mount_of(place) != _mount_of(within):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        folder = _enter(place)
    finally:
        os.close(place)
    with contextlib.suppress(OSError):
        os.fchmod(folder, 0o700)
    return folder


def _find(name: bytes | str, within: int) -> int:
    """The folder of that name, for `_enter`."""
    try:
        return os.open(name, _PLACE | os.O_NOFOLLOW, dir_fd=within)
    except PermissionError:
        if hasattr(os, "O_PATH"):
            raise
        # macOS, whose `chmod` can do without following links
        os.chmod(name, 0o700, dir_fd=within, follow_symlinks=False)
        return os.open(name, _PLACE | os.O_NOFOLLOW, dir_fd=within)


def _enter(place: int) -> int:
    """What `_find` has found, to be read; its owner is let in where nobody may."""
    try:
        return os.open(".", _FOLDER, dir_fd=place)
    except PermissionError:
        os.chmod(f"/proc/self/fd/{place}", 0o700)
        return os.open(".", _FOLDER, dir_fd=place)


def _mount_of(folder: int) -> bytes | int:
    """What tells one mount from others: a folder may be mounted within its own file system."""
    with contextlib.suppress(OSError):
        file = os.open(f"/proc/self/fdinfo/{folder}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            lines = os.read(file, 4096).splitlines()
        finally:
            os.close(file)
        for line in lines:
            if line.startswith(b"mnt_id:"):
                return line
    return os.fstat(folder).st_dev


def _empty(top: int) -> None:
    """Delete files; a folder's folders are moved up to the top first, however deep they are."""
    rounds = 0
    is_changed = True
    while is_changed:
        is_changed = False
        for names in _portions(top):
            for name in names:
                # One thing that does not give way keeps nothing else there.
                is_changed |= _delete(top, name) or _clear(top, name)
            rounds += 1
            if rounds == _MOST_ROUNDS:
                return


def _portions(folder: int) -> Iterator[list[str]]:
    """What is in it. Who deletes it meanwhile, or adds to it, may miss some, and looks again."""
    with os.scandir(folder) as entries:
        while names := [entry.name for entry in itertools.islice(entries, _PORTION)]:
            yield names


def _delete(folder: int, name: str) -> bool:
    """Delete it unless it is a folder; whether it is gone."""
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=folder)
        return True
    return False


def _clear(top: int, name: str) -> bool:
    """Delete the files of a folder and move its folders up; whether that changed anything."""
    is_changed = False
    with contextlib.suppress(OSError):
        inner = _open(name, top)
        try:
            for child in itertools.chain.from_iterable(_portions(inner)):
                is_changed |= _delete(inner, child) or _move_up(inner, child, top)
        finally:
            os.close(inner)
        os.rmdir(name, dir_fd=top)
        is_changed = True
    return is_changed


def _move_up(inner: int, child: str, top: int) -> bool:
    with contextlib.suppress(OSError):
        # A folder that may not be written to may not be moved either.
        os.close(_open(child, inner))
        # Its own name may be taken up there.
        os.rename(child, os.urandom(12).hex(), src_dir_fd=inner, dst_dir_fd=top)
        return True
    return False
