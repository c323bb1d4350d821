"""A PostgreSQL of a deployment's own, whose processes can be killed and stopped."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil

from tests.broker import die_with_parent, free_port, required
from tests.deployment.client import wait_for
from tests.frozen import freeze


def programs() -> Path | None:
    """The folder of `initdb` and `postgres`, which Debian keeps off the PATH."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return installed[-1].parent if installed else None


def why_missing() -> str:
    """Empty if it can be started here. Raises AssertionError when FORGE_REQUIRE names it."""
    if programs() is not None:
        return ""
    assert "postgres" not in required(), "PostgreSQL is required (FORGE_REQUIRE)"
    return "PostgreSQL is not installed"


class Postgres:
    """A server on a free port; its log is in `folder`. `end` removes its data."""

    def __init__(self, folder: Path) -> None:
        # Not in `folder`: the user that it runs as could not get there.
        self._folder = Path(tempfile.mkdtemp(prefix="forge-postgres-"))
        self.port = free_port()
        self.url = f"postgres://forge@127.0.0.1:{self.port}/postgres"
        self.log = folder / "postgres.log"
        found = programs()
        assert found is not None
        self._programs = found
        self._as: list[str] = []
        if os.getuid() == 0:  # as which it refuses to run
            shutil.chown(self._folder, "postgres", "postgres")
            self._as = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
            # What `die_with_parent` has asked for ends where a process becomes another user's.
            self._as.append("--pdeathsig=KILL")
        self._run("initdb", "-D", str(self._folder), "-U", "forge", "-A", "trust", "-E", "UTF8")
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as, str(self._programs / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd="/")

    def start(self) -> None:
        options = [f"port={self.port}", "listen_addresses=127.0.0.1", "fsync=off"]
        options += [f"unix_socket_directories={self._folder}", "max_connections=200"]
        command = [*self._as, str(self._programs / "postgres"), "-D", str(self._folder)]
        for option in options:
            command += ["-c", option]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd="/", stdout=log, stderr=log, preexec_fn=die_with_parent
            )
        wait_for(self._is_ready, f"PostgreSQL answers; see {self.log}")

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        command = [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1"]
        return subprocess.run([*command, "-p", str(self.port)]).returncode == 0

    def processes(self) -> list[psutil.Process]:
        """The postmaster and all its backends."""
        postmaster = psutil.Process(self.process.pid)
        return [postmaster, *postmaster.children(recursive=True)]

    def suspend(self) -> list[psutil.Process]:
        """Every process of it, and which these were; the postmaster first, which makes more."""
        freeze(psutil.Process(self.process.pid))
        found = self.processes()
        for process in found:
            freeze(process)
        return found

    def resume(self, suspended: list[psutil.Process]) -> None:
        for process in suspended:
            if process.is_running():
                process.resume()

    def kill(self) -> None:
        """All of it at once, as when its host dies."""
        victims = self.suspend()
        for process in victims:
            with suppress(psutil.NoSuchProcess):  # one that was dead already
                process.kill()
        self.process.wait()
        # The next one does not start while one of these still holds the shared memory.
        psutil.wait_procs(victims, timeout=60)

    def end(self) -> None:
        if self.process.poll() is None:
            self.resume(self.processes())
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(60)
        shutil.rmtree(self._folder, ignore_errors=True)
