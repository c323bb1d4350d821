"""Tasks that do not end by themselves, and show how many attempts of them run at once."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from tests.deployment.client import Runner
from tests.deployment.deployment import Deployment

RETRY: dict[str, Any] = {"lost_runner_policy": "retry", "safe_to_rerun": True}
# Ends by KILL alone, or when its gate opens. The lock is held as long as a process of it lives,
# so that two attempts at once cannot hide; the ledger shows every start.
STUBBORN = """trap '' INT TERM
exec 9> {folder}/lock
flock -n 9 || echo overlap >> {folder}/ledger
echo "$FORGE_TASK_ID.$FORGE_ATTEMPT" >> {folder}/ledger
echo begun
until [ -e {folder}/gate ]; do sleep 0.1; done
echo done"""


class Place:
    """A project with a runner whose connection can be cut, and room for another one."""

    def __init__(self, forge: Deployment, name: str, folder: Path) -> None:
        self.forge = forge
        self.folder = folder
        self.project = forge.api.project(name)

    def runner(self, name: str) -> Runner:
        return self.forge.api.runner(self.project, name)

    def run(self, name: str, script: str = STUBBORN, **policy: Any) -> int:
        """Start a task with a folder of its own, and wait until its program has begun."""
        (self.folder / name).mkdir()
        script = script.format(folder=self.folder / name)
        task = self.forge.api.run_script(self.project, script, **policy)
        self.forge.api.await_output(task, b"begun")
        return task

    def open_gate(self, name: str) -> None:
        (self.folder / name / "gate").touch()

    def ledger(self, name: str) -> list[str]:
        return (self.folder / name / "ledger").read_text().split()


def attempt_in(forge: Deployment, task: int, number: int, state: str) -> dict[str, object] | None:
    found = forge.api.task(task)
    assert not found["finished_at"], found
    return found if (found["attempt"], found["state"]) == (number, state) else None


def of_attempt(forge: Deployment, task: int, number: int) -> list[int]:
    """Living processes of one attempt, by the environment and the folder that Forge gave them.

    Another Forge on this machine has tasks of the same numbers.
    """
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            given = process.environ()
            told = (given.get("FORGE_TASK_ID"), given.get("FORGE_ATTEMPT"))
            is_here = process.cwd().startswith(f"{forge.folder}/")
            if is_here and told == (str(task), str(number)):
                found.append(process.pid)
    return found
