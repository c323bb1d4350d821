"""Forge's REST API as a script uses it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

import requests

PATIENCE = 120.0


def wait_for(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Ask again and again until `condition` gives something true, and return that."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds:g} s still not: {what}")
        time.sleep(0.05)
    return found


@dataclass(frozen=True)
class Runner:
    id: int
    name: str
    token: str


class Forge:
    """A signed-in client. Keeps asking while Forge is away, as a patient script would."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Authorization"] = f"Bearer {token}"

    def send(self, method: str, path: str, **options: Any) -> requests.Response:
        """One answer of Forge's own. A connection that breaks is tried again."""

        def answer() -> list[requests.Response]:
            try:
                found = self.session.request(
                    method, f"{self.url}/api/v1/{path}", timeout=30, **options
                )
            except requests.RequestException:
                return []
            # In a list, because a refusal is an answer, and false.
            return [] if found.status_code >= 500 else [found]

        (found,) = wait_for(answer, f"{method} {path} answered")
        return cast("requests.Response", found)

    def get(self, path: str) -> Any:
        response = self.send("GET", path)
        assert response.ok, response.text
        return response.json()

    def post(self, path: str, **body: Any) -> Any:
        response = self.send("POST", path, json=body)
        assert response.ok, response.text
        return response.json()

    def project(self, name: str) -> int:
        return int(self.post("projects/", name=name)["id"])

    def template(self, project: int, script: str, **fields: Any) -> int:
        fields.setdefault("name", f"template {time.monotonic_ns()}")
        fields.setdefault("allow_parallel", True)
        fields.setdefault("app", "bash")
        return int(self.post(f"projects/{project}/templates/", script=script, **fields)["id"])

    def access_key(self, project: int, name: str, kind: str, **fields: Any) -> int:
        made = self.post(f"projects/{project}/access-keys/", name=name, kind=kind, **fields)
        return int(made["id"])

    def variable_group(self, project: int, name: str, **fields: Any) -> int:
        made = self.post(f"projects/{project}/variable-groups/", name=name, **fields)
        return int(made["id"])

    def run(self, project: int, template: int) -> int:
        return int(self.post(f"projects/{project}/tasks/", template=template)["id"])

    def run_script(self, project: int, script: str, **fields: Any) -> int:
        return self.run(project, self.template(project, script, **fields))

    def task(self, task: int) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"tasks/{task}/")
        return found

    def wait_until(self, task: int, *states: str) -> dict[str, Any]:
        """Wait for one of the states, or the end, and return the task."""

        def look() -> dict[str, Any] | None:
            found = self.task(task)
            return found if found["state"] in states or found["finished_at"] else None

        found: dict[str, Any] = wait_for(look, f"task {task} {' or '.join(states) or 'finished'}")
        return found

    def finished(self, tasks: Iterable[int]) -> list[dict[str, Any]]:
        return [self.wait_until(task) for task in tasks]

    def log(self, task: int, attempt: int | None = None) -> bytes:
        """The log of the task's last attempt, or of another one."""
        query = "" if attempt is None else f"?attempt={attempt}"
        return self.send("GET", f"tasks/{task}/log{query}").content

    def await_output(self, task: int, text: bytes) -> None:
        wait_for(lambda: text in self.log(task), f"{text!r} in the log of task {task}")

    def runner(self, project: int, name: str, **fields: Any) -> Runner:
        made = self.post(f"projects/{project}/runners/", name=name, **fields)
        return Runner(made["id"], made["name"], made["token"])

    def remove_runner(self, runner: int) -> None:
        assert self.send("DELETE", f"runners/{runner}/").ok

    def status(self, runner: int) -> str:
        return str(self.get(f"runners/{runner}/")["status"])

    def await_status(self, runner: int, *statuses: str) -> None:
        wait_for(lambda: self.status(runner) in statuses, f"runner {runner} {statuses}")
