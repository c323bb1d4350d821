"""One project of a Forge put together by hand: its runners, and what its tasks wait for."""

from __future__ import annotations

import html
import itertools
import re
from pathlib import Path
from types import TracebackType

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from tests.deployment.client import Forge, Runner, wait_for
from tests.deployment.deployment import Worker
from tests.deployment.production import Production

HOLD = "while [ ! -e {gate} ]; do sleep 0.05; done"
_numbers = itertools.count(1)


class Scene:
    """A project of its own, with runners, gates that hold tasks, and somebody who looks."""

    def __init__(self, forge: Production, folder: Path) -> None:
        self.forge = forge
        self.api: Forge = forge.api
        self.folder = folder
        self.project = self.api.project(f"scene {next(_numbers)}")
        self.workers: list[Worker] = []
        self.reader = requests.Session()
        self.reader.trust_env = False
        # As browsers do when an idle connection was closed under their feet.
        self.reader.mount("http://", HTTPAdapter(max_retries=Retry(3, backoff_factor=0.1)))
        page = self.reader.get(f"{forge.web_url}/sign-in/").text
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        assert token
        user = {"username": forge.seeded["username"], "password": forge.seeded["password"]}
        answer = self.reader.post(
            f"{forge.web_url}/sign-in/", {**user, "csrfmiddlewaretoken": token[1]}
        )
        assert answer.ok and "sign-in" not in answer.url

    def __enter__(self) -> Scene:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self.workers:
            worker.kill()

    def runner(self, name: str = "", **fields: object) -> Runner:
        return self.api.runner(self.project, name or f"host-{next(_numbers)}", **fields)

    def worker(self, name: str = "", **fields: object) -> Worker:
        return self.start(self.runner(name, **fields))

    def start(self, runner: Runner, **variables: str) -> Worker:
        worker = self.forge.worker(runner, **variables)
        self.workers.append(worker)
        return worker

    def heard(self, worker: Worker) -> str:
        return str(self.api.get(f"runners/{worker.runner.id}/")["last_heartbeat_at"])

    def change(self, path: str, **fields: object) -> None:
        answer = self.api.send("PATCH", path, json=fields)
        assert answer.ok, answer.text

    def run(self, script: str = "true", **fields: object) -> int:
        return self.api.run_script(self.project, script, **fields)

    def hold(self, **fields: object) -> tuple[int, Path]:
        """A task that runs until its gate is there."""
        gate = self.folder / f"gate-{next(_numbers)}"
        task = self.run(HOLD.format(gate=gate), **fields)
        self.api.wait_until(task, "running")
        return task, gate

    def waits(self, task: int, *words: str) -> str:
        """Wait until the sentence of the task has all the words; page and API say the same."""
        pattern = ".*".join(words)

        def said() -> str:
            found = self.api.task(task)
            assert found["state"] == "queued", found
            sentence = str(found["waiting_for"])
            return sentence if re.search(pattern, sentence) else ""

        wait_for(said, f"task {task} waits for {pattern!r}; {self.api.task(task)}")
        page = html.unescape(self.reader.get(f"{self.forge.web_url}/tasks/{task}/").text)
        shown = re.search(r'id="task-waiting".*?<h2>(.*?)</h2>', page, re.S)
        assert shown
        # A moment in it is the reader's to read, and a task's number leads to it.
        text = re.sub(r"</?(time|a)\b[^>]*>", "", shown[1])
        assert re.search(pattern, text), text
        return text

    def says(self, task: int, sentence: str) -> None:
        """Wait until the API says so of a task that nothing hinders: its page has no heading."""

        def is_said() -> bool:
            return bool(self.api.task(task)["waiting_for"] == sentence)

        wait_for(is_said, f"{sentence!r}; {self.api.task(task)}")

    def starts(self, task: int) -> None:
        assert self.api.wait_until(task)["state"] == "succeeded"
