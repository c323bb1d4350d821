"""A runner tells Flower lies: about other projects' tasks and runners, and things that break pages.

The thief signs in to the broker with its own token, as any Redis client can, and publishes what
it likes where it may. Flower, the controller and the victim's runner are real. After the lies the
thief says one thing that is true: once Flower shows that, the lies have been dealt with.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import redis
import requests

from tests.attacks.thief import Thief
from tests.deployment.client import wait_for
from tests.deployment.deployment import Deployment

MARKUP = "<script>alert(1)</script>"


def message(body: Any, **headers: Any) -> bytes:
    """As kombu writes it to Redis."""
    packed = base64.b64encode(json.dumps(body).encode()).decode()
    whole = {
        "body": packed,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": {"body_encoding": "base64", "delivery_tag": "x", "delivery_info": {}},
    }
    return json.dumps(whole).encode()


class Flower:
    def __init__(self, place: dict[str, Any]) -> None:
        self.url = place["flower_url"]
        self.session = requests.Session()
        self.session.auth = (place["username"], place["password"])

    def get(self, path: str) -> requests.Response:
        return self.session.get(f"{self.url}{path}", timeout=60)

    def tasks(self) -> dict[str, Any]:
        found: dict[str, Any] = self.get("/api/tasks").json()
        return found

    def workers(self, options: str = "") -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/api/workers{options}").json()
        return found


@dataclass
class Liar:
    """The thief's side of the broker."""

    client: redis.Redis
    project: int
    node: str
    own_task: int

    @property
    def prefix(self) -> str:
        return f"forge:project:{self.project}:"

    def event(self, kind: str, **fields: Any) -> dict[str, Any]:
        honest = {"hostname": self.node, "timestamp": time.time(), "utcoffset": 0, "pid": 7}
        return {"type": kind, **honest, "clock": 1, **fields}

    def publish(self, body: Any, channel: str = "task.multi") -> None:
        self.publish_raw(body if isinstance(body, bytes) else message(body), channel)

    def publish_raw(self, data: bytes, channel: str = "task.multi") -> None:
        self.client.publish(f"{self.prefix}/0.celeryev/{channel}", data)


@pytest.fixture(scope="module")
def flower(forge: Deployment) -> Flower:
    return Flower(forge.place)


@pytest.fixture(scope="module")
def victim(forge: Deployment) -> dict[str, Any]:
    """A finished task of the demo project, and its runner's node name."""
    place = forge.place
    found = forge.api.wait_until(forge.api.run_script(place["project_id"], "true"))
    return {"task": f"{found['id']}.1", "node": f"runner-{place['runner_id']}@demo-1"}


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A quick start, because it runs Flower too."""
    with Deployment(tmp_path_factory.mktemp("flower")) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def liar(forge: Deployment) -> Iterator[Liar]:
    project = forge.api.project("Thieves")
    runner = forge.api.runner(project, "thief-1")
    thief = Thief(forge.place["url"], runner, project)
    thief.connect()
    assert thief.heartbeat([]).ok
    task = forge.api.run_script(project, "true")
    place = urlsplit(forge.place["broker_url"])
    client = redis.Redis(
        host=str(place.hostname),
        port=int(place.port or 0),
        username=f"runner-{runner.id}",
        password=runner.token,
    )
    yield Liar(client, project, f"runner-{runner.id}@thief-1", task)
    client.close()


def tell_the_truth(liar: Liar, flower: Flower, **fields: Any) -> dict[str, Any]:
    """An honest event about the liar's own task; returns how Flower shows that task."""
    mark = time.time() - 30 + (time.monotonic_ns() % 1_000_000) / 1e6
    uuid = f"{liar.own_task}.1"

    def is_seen() -> dict[str, Any] | None:
        liar.publish(liar.event("task-received", uuid=uuid, timestamp=mark, **fields))
        shown: dict[str, Any] | None = flower.tasks().get(uuid)
        return shown if shown and shown["received"] == mark else None

    found: dict[str, Any] = wait_for(is_seen, "Flower shows what is true")
    return found


Lie = Callable[[Liar, dict[str, Any]], Any]

FOREIGN: dict[str, Lie] = {
    "its own runner on another project's task": lambda liar, victim: liar.event(
        "task-started", uuid=victim["task"]
    ),
    "another project's runner on its own task": lambda liar, victim: liar.event(
        "task-started", uuid=f"{liar.own_task}.1", hostname=victim["node"]
    ),
    "another project's runner is gone": lambda liar, victim: liar.event(
        "worker-offline", hostname=victim["node"]
    ),
    "both in a list after something true": lambda liar, victim: [
        liar.event("task-started", uuid=f"{liar.own_task}.1"),
        liar.event("task-failed", uuid=victim["task"], exception="a lie"),
    ],
    "lineage of another project's task": lambda liar, victim: liar.event(
        "task-received", uuid=f"{liar.own_task}.1", root_id=victim["task"], parent_id=victim["task"]
    ),
    "sent by a client": lambda liar, victim: liar.event("task-sent", uuid=victim["task"]),
    "an attempt still to come": lambda liar, victim: liar.event(
        "task-received", uuid=victim["task"].replace(".1", ".2")
    ),
}

MALFORMED: dict[str, Lie] = {
    "no message": lambda liar, victim: b"no message",
    "no object": lambda liar, victim: ["x", 7, None, [], {}],
    "pickle": lambda liar, victim: message({}).replace(b"application/json", b"application/pickle"),
    "no such task": lambda liar, victim: liar.event("task-received", uuid="987654321.1"),
    "a number as uuid": lambda liar, victim: liar.event("task-received", uuid=7),
    "a list as uuid": lambda liar, victim: liar.event("task-received", uuid=["1.1"]),
    "markup as uuid": lambda liar, victim: liar.event("task-received", uuid=MARKUP),
    "no uuid": lambda liar, victim: liar.event("task-received"),
    "another job": lambda liar, victim: liar.event(
        "task-received", uuid=f"{liar.own_task}.1", name=MARKUP
    ),
    "an unknown kind": lambda liar, victim: liar.event(f"task-{MARKUP}", uuid=f"{liar.own_task}.1"),
    "a kind that is no text": lambda liar, victim: liar.event(["task-started"]),  # type: ignore[arg-type]
    "heartbeats of its own": lambda liar, victim: liar.event(
        "worker-heartbeat", heartbeats="x", alive=None, event=7, _fields=MARKUP, freq="often"
    ),
    "a clock above all others": lambda liar, victim: liar.event(
        "task-started", uuid=f"{liar.own_task}.1", clock=10**30
    ),
    "a time that is none": lambda liar, victim: liar.event(
        "task-started", uuid=f"{liar.own_task}.1", timestamp="late", utcoffset="x"
    ),
    "a time of 400 digits": lambda liar, victim: liar.event(
        "task-started", uuid=f"{liar.own_task}.1", timestamp=10**400
    ),
    "nested numbers": lambda liar, victim: liar.event(
        "task-succeeded", uuid=f"{liar.own_task}.1", runtime=[1], result={"a": {"b": MARKUP}}
    ),
    "deep nesting": lambda liar, victim: b'{"body":' + b"[" * 100_000 + b"}",
}


def assert_untouched(flower: Flower, victim: dict[str, Any]) -> None:
    task = flower.tasks()[victim["task"]]
    assert task["state"] == "SUCCESS" and task["worker"] == victim["node"], task
    assert task["exception"] is None
    shown = flower.get("/?json=1")
    assert shown.status_code == 200, shown.text
    workers = {row["hostname"]: row for row in shown.json()["data"]}
    assert workers[victim["node"]]["status"] is True
    assert flower.get("/tasks").ok and flower.get(f"/task/{victim['task']}").ok


@pytest.mark.parametrize("name", [*FOREIGN, *MALFORMED])
def test_a_lie_changes_nothing_that_flower_shows_of_others(
    name: str, liar: Liar, flower: Flower, victim: dict[str, Any]
) -> None:
    wait_for(
        lambda: flower.tasks().get(victim["task"], {}).get("state") == "SUCCESS",
        "Flower shows the end of the victim's task",
    )
    before = set(flower.tasks())
    liar.publish({**FOREIGN, **MALFORMED}[name](liar, victim))
    shown = tell_the_truth(liar, flower)
    assert_untouched(flower, victim)
    assert set(flower.tasks()) <= before | {f"{liar.own_task}.1", victim["task"]}
    assert shown["worker"] == liar.node and shown["name"] == "forge.run_task"
    assert shown["clock"] < 10**9 and not shown["root_id"] and not shown["parent_id"]
    assert flower.get(f"/task/{liar.own_task}.1").status_code == 200


def test_what_a_runner_says_of_its_own_tasks_is_shown_and_bounded(
    forge: Deployment, liar: Liar, flower: Flower
) -> None:
    number = forge.api.run_script(liar.project, "true")
    uuid = f"{number}.1"
    long = MARKUP + "x" * 20_000
    liar.publish(liar.event("task-received", uuid=uuid, args=MARKUP, kwargs=long))
    liar.publish(liar.event("task-started", uuid=uuid))
    liar.publish(liar.event("task-failed", uuid=uuid, exception=long, traceback=long))
    task = wait_for(
        lambda: (found := flower.tasks().get(uuid, {})).get("state") == "FAILURE" and found,
        "Flower shows the end of the liar's task",
    )
    assert task["exception"].startswith(MARKUP) and len(task["exception"]) <= 500
    assert task["traceback"] is None and task["args"] == f"[{number}, 1]"
    assert MARKUP not in flower.get(f"/task/{uuid}").text


def test_a_flood_of_unknown_tasks_leaves_other_projects_events_through(
    forge: Deployment, liar: Liar, flower: Flower
) -> None:
    stop = threading.Event()

    def flood() -> None:
        number = 10**9
        while not stop.is_set():
            events = []
            for _ in range(100):
                number += 1
                events.append(liar.event("task-received", uuid=f"{number}.1"))
            with suppress(redis.RedisError):
                liar.publish(events)
            # Five times what a project may say, and no more than the machine can bear beside it.
            stop.wait(0.01)

    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    try:
        task = forge.api.wait_until(forge.api.run_script(forge.place["project_id"], "true"))
        wait_for(lambda: f"{task['id']}.1" in flower.tasks(), "Flower shows a task in the flood")
        assert not any(int(uuid.partition(".")[0]) >= 10**9 for uuid in flower.tasks())
    finally:
        stop.set()
        thread.join()


# --- inspections ---


class FalseNode(threading.Thread):
    """Answers every inspection of its project with what `answers` gives for the command."""

    def __init__(self, liar: Liar, answers: Callable[[str], list[Any]]) -> None:
        super().__init__(daemon=True)
        self._liar = liar
        self._answers = answers
        self._pubsub = liar.client.pubsub(ignore_subscribe_messages=True)
        self._pubsub.psubscribe(f"{liar.prefix}/0.celery.pidbox")
        self._is_done = threading.Event()
        self.asked: set[str] = set()

    def run(self) -> None:
        while not self._is_done.is_set():
            heard = self._pubsub.get_message(timeout=0.2)
            if heard is None:
                continue
            body = json.loads(base64.b64decode(json.loads(heard["data"])["body"]))
            if "reply_to" not in body:
                continue
            key = f"{self._liar.prefix}{body['reply_to']['routing_key']}.reply.celery.pidbox"
            for answer in self._answers(body["method"]):
                data = answer if isinstance(answer, bytes) else None
                data = data or message(answer, ticket=body["ticket"], clock=10**30)
                self._liar.client.lpush(key, data)
            self.asked.add(body["method"])

    def __enter__(self) -> FalseNode:
        self.start()
        return self

    def __exit__(self, *ignored: object) -> None:
        self._is_done.set()
        self.join()
        self._pubsub.close()


ABSURD: list[Any] = [None, 7, "x", [], ["x"], [{}], {}, {"total": 7, "broker": 7}, {"error": []}]
HONEST: dict[str, Any] = {
    "stats": {"total": {"forge.run_task": 3}, "broker": {"transport": "redis"}, "pid": 7},
    "registered": ["forge.run_task"],
    "active_queues": [{"name": "tasks"}],
    "conf": {"timezone": "UTC"},
}


def show(flower: Flower, node: str) -> requests.Response:
    return flower.get(f"/worker/{quote(node)}")


def test_answers_in_the_name_of_another_projects_runner_are_not_believed(
    liar: Liar, flower: Flower, victim: dict[str, Any]
) -> None:
    lie = {"total": {"a lie": 7}, "broker": {}, "pool": {"a lie": 7}}
    false = {"stats": lie, "conf": {"a lie": "x"}, "registered": ["a lie"]}

    def answers(method: str) -> list[Any]:
        return [{victim["node"]: false.get(method, [])}] * 3

    with FalseNode(liar, answers) as false_node:
        for _ in range(3):
            flower.workers("?refresh=1")
        assert {"stats", "conf", "registered"} <= false_node.asked
        page = show(flower, victim["node"])
    assert page.status_code == 200 and "a lie" not in page.text and "forge.run_task" in page.text


@pytest.mark.parametrize("answer", ABSURD, ids=repr)
def test_an_absurd_answer_breaks_no_page_and_hides_nobody(
    answer: Any, liar: Liar, flower: Flower, victim: dict[str, Any]
) -> None:
    def answers(method: str) -> list[Any]:
        whole = [b"no message", [], {}, {"x": 1, "y": 2}, {liar.node: answer}]
        return [*whole, {liar.node: HONEST.get(method, [])}]

    with FalseNode(liar, answers) as false_node:
        workers = flower.workers("?refresh=1")
        # Who asks waits for a second only: it may be over before this one was heard.
        wait_for(lambda: false_node.asked, "somebody asks")
        # The worker's own page inspects it again.
        page = show(flower, liar.node)
        assert page.status_code in (200, 404), page.text
        assert show(flower, victim["node"]).status_code == 200
        assert flower.get("/broker").status_code == 200
    assert victim["node"] in workers


def test_a_runner_that_answers_without_end_keeps_nobody_waiting(
    liar: Liar, flower: Flower, victim: dict[str, Any]
) -> None:
    with FalseNode(liar, lambda method: [b"x"] * 5000):
        assert victim["node"] in flower.workers("?refresh=1")
        assert show(flower, victim["node"]).status_code == 200


def test_an_honest_answer_is_shown_without_tasks_of_other_projects(
    liar: Liar, flower: Flower, victim: dict[str, Any]
) -> None:
    tasks = [{"id": f"{liar.own_task}.1"}, {"id": victim["task"]}, {"id": MARKUP}, 7]

    def answers(method: str) -> list[Any]:
        listed = tasks if method in ("active", "reserved") else [victim["task"]]
        return [{liar.node: HONEST.get(method, listed)}]

    with FalseNode(liar, answers):

        def shown() -> requests.Response | None:
            # Asked for a second only, an honest node may still be late.
            flower.workers("?refresh=1")
            found = show(flower, liar.node)
            return found if f"/task/{liar.own_task}.1" in found.text else None

        page = wait_for(shown, "Flower shows what the node says")
    assert page.status_code == 200, page.text
    assert f"/task/{liar.own_task}.1" in page.text
    assert f"/task/{victim['task']}" not in page.text and MARKUP not in page.text
    assert f"{liar.prefix}tasks" in page.text


def test_a_key_that_a_runner_spoilt_hides_no_other_project(
    liar: Liar, flower: Flower, victim: dict[str, Any]
) -> None:
    binding = f"{liar.prefix}_kombu.binding.reply.celery.pidbox"
    liar.client.sadd(binding, "no binding of kombu's")
    assert victim["node"] in flower.workers("?refresh=1")
    liar.client.srem(binding, "no binding of kombu's")
    # Of the wrong type altogether, where a list is what the account may make.
    liar.client.srem(binding, *liar.client.smembers(binding) or ["x"])
    with suppress(redis.ResponseError):
        liar.client.lpush(binding, "x")
    assert victim["node"] in flower.workers("?refresh=1")
    assert show(flower, victim["node"]).status_code == 200
