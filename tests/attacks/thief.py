"""The thief: holds one runner's token, knows the protocols, follows no rule."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import requests

from tests.deployment.client import Runner

# What an account may always do: none of it reaches anything.
HARMLESS = {"ping", "multi", "exec", "quit", "reset", "punsubscribe", "client|setinfo"}
GOOD_CONNECT = {
    "protocol": 1,
    "version": "0.1.0",
    "instance": "thief-instance-0123456789",
    "host_name": "thief",
    "system": "Debian",
}


@dataclass
class Thief:
    url: str
    runner: Runner
    project: int
    session: str = "thief-session-0123456789"

    def __post_init__(self) -> None:
        self._http = requests.Session()
        self._http.trust_env = False

    # --- HTTP ---

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.runner.token}"}

    def send(self, path: str, body: Any, **headers: str) -> requests.Response:
        options: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {"json": body}
        return self._http.post(
            f"{self.url}/runner/v1/{path}",
            headers={**self.headers, **headers},
            timeout=60,
            **options,
        )

    def send_patiently(self, path: str, body: Any) -> requests.Response:
        """The answer that is not about how much this runner has sent before."""
        while (answer := self.send(path, body)).status_code == 429:
            time.sleep(float(answer.headers["Retry-After"]))
        return answer

    def connect(self) -> dict[str, Any]:
        answer = self.send_patiently("connect", {**GOOD_CONNECT, "session": self.session})
        assert answer.ok, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def claim(self, task: int, attempt: int = 1, nonce: str = "n" * 16) -> requests.Response:
        return self.send_patiently("claim", {"task": task, "attempt": attempt, "nonce": nonce})

    def report(self, **parts: Any) -> requests.Response:
        empty: dict[str, Any] = {"started": [], "pieces": [], "results": []}
        return self.send_patiently("report", {**empty, **parts})

    def heartbeat(self, held: list[dict[str, int]]) -> requests.Response:
        return self.send_patiently("heartbeat", {"session": self.session, "held": held})

    # --- the broker ---

    @property
    def account(self) -> str:
        return f"runner-{self.runner.id}"

    @property
    def prefix(self) -> str:
        return f"forge:project:{self.project}:"

    def may(self, words: list[str]) -> bool:
        """Whether the promise of SECURITY.md allows this command, said here a second time."""
        name, arguments = words[0].lower(), words[1:]
        whole = f"{name}|{arguments[0].lower()}" if arguments else name
        if name in HARMLESS or whole in HARMLESS:
            return True
        if name == "hello":
            return "auth" not in [word.lower() for word in arguments]
        keys = arguments[:-1] if name == "brpop" else arguments
        if name in ("lpush", "sadd", "srem", "publish"):
            keys = arguments[:1]
        return bool(keys) and all(self._opens(name, key) for key in keys)

    def _opens(self, name: str, key: str) -> bool:
        if not key.startswith(self.prefix):
            return False
        rest = key.removeprefix(self.prefix)
        if name == "del":
            mine = rest.startswith(f"{self.account}@") and rest.endswith(".celery.pidbox")
            return mine and len(rest) >= len(f"{self.account}@.celery.pidbox")
        return {
            "brpop": rest in ("tasks", self.account),
            "llen": True,
            "lpush": rest.endswith(".reply.celery.pidbox"),
            "sadd": rest.startswith("_kombu."),
            "srem": rest.startswith("_kombu."),
            "smembers": rest.startswith("_kombu."),
            "publish": rest.startswith("/0.celeryev/"),
            "psubscribe": rest == "/0.celery.pidbox",
        }.get(name, False)
