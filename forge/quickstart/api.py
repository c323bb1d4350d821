"""The quick start as a user of its own Forge: over the REST API."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import requests

from forge.quickstart.errors import NotReadyError

TASK_SECONDS = 120.0


class Api:
    """A signed-in client. Raises requests.RequestException where Forge does not answer."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self._session = requests.Session()
        # No proxy stands between a process and its own host.
        self._session.trust_env = False
        self._session.headers["Authorization"] = f"Bearer {token}"

    def is_up(self) -> bool:
        try:
            return self._session.get(f"{self.url}/readyz", timeout=5).ok
        except requests.RequestException:
            return False

    def get(self, path: str) -> Any:
        response = self._session.get(f"{self.url}/api/v1/{path}", timeout=30)
        response.raise_for_status()
        return response.json()

    def is_runner_ready(self, runner_id: int) -> bool:
        return self.get(f"runners/{runner_id}/")["status"] in ("idle", "busy")

    def run(self, project_id: int, template_id: int) -> int:
        """Run a template; returns the task's id."""
        response = self._session.post(
            f"{self.url}/api/v1/projects/{project_id}/tasks/",
            json={"template": template_id},
            timeout=30,
        )
        response.raise_for_status()
        return int(response.json()["id"])

    def follow(self, task_id: int) -> Iterator[bytes]:
        """The log as it comes; ends when the task has. Raises NotReadyError after two minutes."""
        offset, deadline = 0, time.monotonic() + TASK_SECONDS
        while True:
            is_finished = self.get(f"tasks/{task_id}/")["finished_at"] is not None
            path = f"{self.url}/api/v1/tasks/{task_id}/log"
            piece = self._session.get(path, params={"offset": str(offset)}, timeout=30).content
            offset += len(piece)
            yield piece
            if is_finished:
                return
            if time.monotonic() > deadline:
                raise NotReadyError(f"Task #{task_id} did not end within {TASK_SECONDS:g} s.")
            time.sleep(0.1)
