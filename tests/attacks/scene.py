"""Where the thief is at work: a whole Forge, its own project, and an innocent one beside it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from tests.attacks.ledger import Row, open_row
from tests.attacks.thief import Thief
from tests.attacks.wire import DirectWire, TunnelWire
from tests.broker import PASSWORD, free_port
from tests.deployment.client import Runner, wait_for
from tests.deployment.production import Production

# Low enough to be reached here; far above what a worker sends.
QUOTAS = {
    "FORGE_RUNNER_REQUESTS_PER_SECOND": "12",
    "FORGE_RUNNER_BYTES_PER_SECOND": "2000000",
    "FORGE_WRONG_TOKENS_PER_SECOND": "100",
}
TICKING = "echo begun; until [ -e {gate} ]; do echo tick; sleep 0.2; done; echo done"
# What changes by itself.
LIVELY = {"last_heartbeat_at", "lease_expires_at", "status", "running", "log_bytes"}
LIVELY |= {"log_written_bytes", "watched_until", "updated_at"}


class Scene(Production):
    """A Forge on one kind of broker, with what the thief and its victims need."""

    def __enter__(self) -> Scene:
        super().__enter__()
        self.administrator = redis.Redis(port=self.broker_port, password=PASSWORD)
        self.server = self._server_name()
        self.thiefs_project = self.api.project("Thief's")
        self.innocents_project = self._project_whose_number_begins_alike()
        self.demo = Runner(
            self.seeded["runner_id"], self.seeded["runner_name"], self.seeded["runner_token"]
        )
        self.demo_worker = self.worker(self.demo)
        runner = self.api.runner(self.innocents_project, "innocent-1")
        self.innocents_worker = self.worker(runner)
        self.innocent = runner
        self._pids = self._processes()
        return self

    def _server_name(self) -> str:
        found: dict[str, Any] = self.administrator.info("server")
        name = str(found.get("server_name", "redis"))
        return f"{name.capitalize()} {found.get(f'{name}_version', found['redis_version'])}"

    def _project_whose_number_begins_alike(self) -> int:
        """Project 2 is the thief's, so 20: a prefix that is not closed would open it."""
        for counter in itertools.count():
            number = self.api.project(f"Somebody's {counter}")
            if str(number).startswith(str(self.thiefs_project)):
                return number
        raise AssertionError

    def _processes(self) -> list[object]:
        """Which web, controller and broker run: others after a crash."""
        found: dict[str, Any] = self.administrator.info("server")
        services = (self.web, self.controller, self.broker)
        return [*(one.process.pid for one in services), found["run_id"]]

    def steal(self, kind: str, project: int | None = None) -> Thief:
        """The token of a runner that nothing else uses, so that the log's words are about it."""
        project = project or self.thiefs_project
        name = re.sub("[^a-z0-9]+", "-", kind.lower()).strip("-")[:40] + f"-{free_port()}"
        return Thief(self.web_url, self.api.runner(project, name), project)

    @contextmanager
    def attack(self, kind: str, thief: Thief, logged: str) -> Iterator[Row]:
        """One kind of attempts. Nothing may succeed or end, and the log names the runner.

        `logged` is a pattern of the refusal's code, as web or controller write it; empty where
        the thief does not even look like a runner.
        """
        row = open_row(self.server, kind)
        yield row
        row.end()
        self.assert_unharmed()
        self.await_refusal(thief, logged)

    def await_refusal(self, thief: Thief, logged: str) -> None:
        """A token that opens nothing is logged with its sender, and whose it was."""
        name = re.escape(f"{thief.runner.name} ({thief.runner.id})")
        pattern = f"refused runner {name}: ({logged}): "
        if logged == "removed":
            pattern = f"refused sender [^ ]+: removed: a token of runner {name}"
        if logged:
            wait_for(lambda: re.search(pattern, self.said()), f"the log says {pattern!r}")

    def said(self) -> str:
        return self.web.said() + self.controller.said()

    def assert_unharmed(self) -> None:
        """Everything answers, as the same processes, and has met nothing unexpected."""
        assert self.api.get(f"projects/{self.innocents_project}/")
        assert self._processes() == self._pids
        assert self.demo_worker.process.poll() is None
        assert self.innocents_worker.process.poll() is None
        assert "Traceback" not in self.said()

    def direct(self, thief: Thief, **options: Any) -> DirectWire:
        return DirectWire(self.broker_port, thief, **options)

    def tunnel(self, thief: Thief) -> TunnelWire:
        return TunnelWire(thief, lambda: self.steal("accomplice"))


@dataclass
class Innocent:
    """A task of another project, from before the attack to after it, and all that is its."""

    scene: Scene
    gate: Path
    task: int = 0
    rows: dict[str, Any] = field(default_factory=dict)
    keys: dict[bytes, bytes] = field(default_factory=dict)

    def begin(self) -> None:
        script = TICKING.format(gate=self.gate)
        self.task = self.scene.api.run_script(self.scene.innocents_project, script)
        self.scene.api.await_output(self.task, b"tick")
        self.rows, self.keys = self._rows(), self._keys()

    def end(self) -> None:
        """It has run to its end in one attempt, and nothing of its project has changed."""
        # Not the attack but a machine that stood still may have made it unreachable for a moment.
        assert self.scene.api.wait_until(self.task, "running")["state"] == "running"
        rows = self._rows()
        changed = {path: (self.rows[path], row) for path, row in rows.items()}
        changed = {path: pair for path, pair in changed.items() if pair[0] != pair[1]}
        assert not changed, changed
        wait_for(lambda: self._keys() == self.keys, "the project's keys are as they were")
        self.gate.touch()
        ended = self.scene.api.wait_until(self.task)
        assert (ended["state"], ended["attempt"], ended["log_complete"]) == ("succeeded", 1, True)
        begun, *ticks, done, rest = self.scene.api.log(self.task).split(b"\n")
        assert (begun, set(ticks), done, rest) == (b"begun", {b"tick"}, b"done", b"")
        following = self.scene.api.run_script(self.scene.innocents_project, "true")
        assert self.scene.api.wait_until(following)["state"] == "succeeded"
        assert "Traceback" not in self.scene.innocents_worker.said()

    def _rows(self) -> dict[str, Any]:
        number = self.scene.innocents_project
        paths = [f"projects/{number}/", f"tasks/{self.task}/"]
        paths += [f"projects/{number}/{kind}/" for kind in ("runners", "templates", "tasks")]
        return {path: still(self.scene.api.get(path)) for path in paths}

    def _keys(self) -> dict[bytes, bytes]:
        broker = self.scene.administrator
        pattern = f"forge:project:{self.scene.innocents_project}:*"
        return {key: broker.dump(key) or b"" for key in sorted(broker.scan_iter(pattern))}


def still(value: Any) -> Any:
    """What the API says, without what changes by itself."""
    if isinstance(value, dict):
        return {key: still(item) for key, item in value.items() if key not in LIVELY}
    if isinstance(value, list):
        return [still(item) for item in value]
    return value
