"""Starts a fork server, and notes it for whoever comes after this worker."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

# The server imports its own folder as the package `server`, so that it never loads the rest of
# the worker: every byte it holds is copied into the page tables of every supervisor. It begins in
# that folder rather than being told its path, and so is not called after the worker: who kills
# workers by `pkill -f` hits the worker alone, and what ends its tasks does its work.
_SERVER_FOLDER = Path(__file__).resolve().parent
_SERVER_CODE = (
    "import os, sys; sys.path.append(os.getcwd()); os.chdir('/'); "
    "from server.main import main; main(*sys.argv[1:])"
)
_LEAN = ("-I", "-S", "-X", "utf8")


class Note(NamedTuple):
    """A file that tells of a fork server, also when this worker was killed.

    file: its descriptor; it is locked (`flock`) for as long as the server or a supervisor of it
    lives. folder: a descriptor too. name: within the folder; the server makes it `<name>.ended` as
    its last act, when nothing of its tasks is left, and has it on its command line.
    """

    file: int
    folder: int
    name: str

    def take_back(self) -> None:
        """There is no such server after all."""
        with suppress(OSError):
            os.unlink(self.name, dir_fd=self.folder)

    def close(self) -> None:
        os.close(self.file)
        os.close(self.folder)


def launch(note: Note | None) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """A new server and this worker's end of the socket for requests. Raises OSError.

    The note is closed here in any case; the server holds it on.
    """
    try:
        near, far = socket.socketpair()
        try:
            with far:
                return _run_server(far.fileno(), note), near
        except BaseException:
            near.close()
            raise
    except BaseException:
        if note is not None:
            note.take_back()
        raise
    finally:
        if note is not None:
            note.close()


def _run_server(requests: int, note: Note | None) -> subprocess.Popen[bytes]:
    # Its own session keeps a terminal's Ctrl-C away. Of the environment it gets only what the
    # interpreter needs: the worker's holds the runner token.
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    noted = [note.name, str(note.file), str(note.folder)] if note is not None else []
    return subprocess.Popen(
        [sys.executable, *_LEAN, "-c", _SERVER_CODE, str(requests), *noted],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=(requests, note.file, note.folder) if note is not None else (requests,),
        start_new_session=True,
        cwd=_SERVER_FOLDER,
        env=kept,
    )
