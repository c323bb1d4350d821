"""The socket of the tunnel, where something on the host deletes it."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from runners.worker.configuration import Configuration
from runners.worker.tokens import TokenSource
from runners.worker.tunnel import Tunnel
from tests.deployment.client import wait_for


@pytest.fixture(params=["beside the journal", "of its own"])
def tunnel(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Tunnel]:
    """One whose Forge is away; the folder's path is short enough for a socket, or is not."""
    monkeypatch.chdir(tmp_path)
    folder = Path("runner-1" if request.param == "beside the journal" else "r" * 200)
    folder.mkdir()
    token = TokenSource("fgr_" + "a" * 43)
    made = Tunnel(Configuration("http://127.0.0.1:9", token, folder), token.current, folder)
    made.open()
    yield made
    made.close()
    # In a worker these end with the process.
    made._loop.run_until_complete(asyncio.sleep(0))
    made._loop.close()


def is_listening(tunnel: Tunnel) -> bool:
    """It takes a connection, and closes it because Forge is away."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(tunnel.path) == 0 and client.recv(1) == b""


def test_a_socket_that_is_deleted_with_its_folder_is_made_anew(
    tunnel: Tunnel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    folder = Path(tunnel.path).parent
    for _ in range(2):
        shutil.rmtree(folder)
        tunnel.mend()
        wait_for(lambda: is_listening(tunnel), "it listens again")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(os.stat(tunnel.path).st_mode) == 0o600
    tunnel.mend()
    said = f"The socket {tunnel.path} was deleted, and is made anew."
    wait_for(lambda: caplog.messages.count(said) == 2, "it says so")
    assert not tunnel.trouble.startswith("The socket")


def test_no_socket_is_made_in_what_somebody_else_has_put_there(
    tunnel: Tunnel, tmp_path: Path
) -> None:
    folder = Path(tunnel.path).parent
    shutil.rmtree(folder)
    (tmp_path / "other").mkdir()
    folder.symlink_to(tmp_path / "other")
    tunnel.mend()
    why = "cannot be opened: its folder belongs to somebody else."
    wait_for(lambda: tunnel.trouble.endswith(why), "it says why not")
    assert not any((tmp_path / "other").iterdir())
    folder.unlink()
    tunnel.mend()
    wait_for(lambda: is_listening(tunnel), "it listens again")
