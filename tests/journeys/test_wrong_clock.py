"""Runners whose clocks are an hour wrong, either way: no time that Forge says comes from them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from tests.deployment.deployment import SHORT, Deployment

# Read by every Python that the host starts, before anything else.
SHIFT = """import datetime, os, time
shift = int(os.environ["CLOCK_SHIFT"])
read, read_ns, local, universal = time.time, time.time_ns, time.localtime, time.gmtime
time.time = lambda: read() + shift
time.time_ns = lambda: read_ns() + shift * 10**9
time.localtime = lambda seconds=None: local(time.time() if seconds is None else seconds)
time.gmtime = lambda seconds=None: universal(time.time() if seconds is None else seconds)


class Shifted(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls):
        return cls.now(datetime.UTC).replace(tzinfo=None)


datetime.datetime = Shifted
"""
# Longer than the lease: one that went by the clock would have ended an hour ago, or never.
BEYOND_LEASE = 1.5 * float(SHORT["FORGE_LEASE_SECONDS"])
RETRY = {"lost_runner_policy": "retry", "safe_to_rerun": True}
TIMES = ("created_at", "claimed_at", "started_at", "finished_at")


class Host:
    """One whose clock is so many seconds wrong, with a project of its own."""

    def __init__(self, forge: Deployment, folder: Path, shift: int) -> None:
        self.forge, self.shift, self.ledger = forge, shift, folder / f"ledger{shift}"
        self.project = forge.api.project(f"Clock {shift}")
        self.runner = forge.api.runner(self.project, f"clock-{'slow' if shift < 0 else 'fast'}")
        self.begun = datetime.now(UTC)
        (folder / "sitecustomize.py").write_text(SHIFT)
        path = str(folder)
        self.worker = forge.worker(self.runner, PYTHONPATH=path, CLOCK_SHIFT=str(shift))

    def run(self) -> None:
        work = f"echo $FORGE_ATTEMPT >> {self.ledger}; sleep {BEYOND_LEASE}; echo done"
        self.long = self.forge.api.run_script(self.project, work, **RETRY)
        clock = "import time; print(int(time.time()))"
        self.short = self.forge.api.run_script(self.project, clock, app="python", name="clock")

    def check(self) -> None:
        api = self.forge.api
        told, ended = api.wait_until(self.short), api.wait_until(self.long)
        # The clock is wrong there, for tasks too.
        off = int(api.log(self.short)) - self.begun.timestamp()
        assert round(off / 3600) == self.shift // 3600
        assert (ended["state"], ended["attempt"], ended["log_complete"]) == ("succeeded", 1, True)
        assert self.ledger.read_text().split() == ["1"]
        for task in (told, ended):
            times = [datetime.fromisoformat(task[name]) for name in TIMES]
            times = [self.begun, *times, datetime.now(UTC)]
            assert times == sorted(times)
        heard = api.get(f"runners/{self.runner.id}/")["last_heartbeat_at"]
        assert self.begun <= datetime.fromisoformat(heard) <= datetime.now(UTC)


def test_clocks_that_are_an_hour_wrong_change_nothing(forge: Deployment, tmp_path: Path) -> None:
    hosts = [Host(forge, tmp_path, shift) for shift in (3600, -3600)]
    for host in hosts:
        host.run()
    for host in hosts:
        host.check()
        host.worker.kill()
        forge.api.await_status(host.runner.id, "offline")
