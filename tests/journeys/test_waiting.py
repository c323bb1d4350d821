"""Why a task waits: page and API name the cause, and once it is cured the task starts.

One Forge put together by hand, so that its controller and its broker can be taken away.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis

from tests import broker as real_broker
from tests.deployment.client import wait_for
from tests.deployment.faults import NarrowFront
from tests.deployment.full_disk import fill
from tests.deployment.production import Production
from tests.deployment.scene import HOLD, Scene
from tests.deployment.silence import Wire


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    folder = tmp_path_factory.mktemp("waiting")
    binary = real_broker.binaries()["valkey"]
    server = {"FORGE_QUARANTINE_SECONDS": "600", "FORGE_BROKER_PROJECT_BYTES": "200000"}
    with Production(folder, broker=[binary], server=server) as production:
        yield production


@pytest.fixture
def scene(forge: Production, tmp_path: Path) -> Iterator[Scene]:
    with Scene(forge, tmp_path) as scene:
        yield scene


def test_the_project_has_no_runner(scene: Scene) -> None:
    task = scene.run()
    scene.waits(task, "^This project has no runners yet\\.$")
    scene.worker()
    scene.starts(task)


def test_no_runner_has_the_tags(scene: Scene) -> None:
    scene.worker(tags=["linux"])
    task = scene.run(tags=["linux", "gpu"])
    scene.waits(task, "^No runner has the tags gpu and linux\\.$")
    scene.worker(tags=["linux", "gpu"])
    scene.starts(task)


def test_all_refuse_tasks_without_tags(scene: Scene) -> None:
    scene.worker("picky-1", tags=["linux"], takes_untagged=False)
    task = scene.run()
    scene.waits(task, "^picky-1, the only runner, refuses tasks without tags\\.$")
    scene.worker()
    scene.starts(task)


def test_the_only_runner_never_connected(scene: Scene) -> None:
    runner = scene.runner("new-1")
    task = scene.run()
    scene.waits(task, "^new-1, the only runner that may take it, has not connected yet\\.$")
    scene.start(runner)
    scene.starts(task)


def test_all_are_offline(scene: Scene) -> None:
    first, second = scene.worker("off-1"), scene.worker("off-2")
    first.end()
    scene.api.await_status(first.runner.id, "offline")
    goodbye = scene.heard(first)
    wait_for(lambda: scene.heard(second) > goodbye, "the second is heard after the first")
    second.kill()
    scene.api.await_status(second.runner.id, "offline")
    task = scene.run()
    words = "^All 2 runners that may take it are offline; off-2 was heard last, less than a minute"
    scene.waits(task, words)
    first.start()
    scene.starts(task)


def test_all_are_busy_and_others_are_ahead(scene: Scene) -> None:
    for name in ("busy-1", "busy-2"):
        scene.worker(name, concurrency=1)
    gates = [scene.hold()[1] for _ in range(2)]
    ahead = [scene.run(), scene.run()]
    task = scene.run()
    scene.waits(task, "^All 2 runners for it are busy, and 2 tasks are ahead\\.$")
    gates[0].touch()
    scene.starts(task)
    assert {one["state"] for one in scene.api.finished(ahead)} == {"succeeded"}
    gates[1].touch()


STUBBORN = "trap '' INT TERM; echo begun; while [ ! -e {gate} ]; do echo on; sleep 0.2; done"


def test_the_only_runner_still_ends_what_was_given_up(scene: Scene) -> None:
    """The program goes on after it was given up, and takes the slot of the runner that is back."""
    wire = Wire(scene.forge.web_port)
    try:
        runner = scene.runner("ends-it-1", concurrency=1)
        worker = scene.start(runner, FORGE_URL=wire.url)
        gate = scene.folder / "gate"
        lost = scene.run(STUBBORN.format(gate=gate))
        scene.api.await_output(lost, b"begun")
        wire.cut()
        scene.api.wait_until(lost, "unreachable")
        scene.api.post(f"tasks/{lost}/force-stop")
        wire.mend()
        scene.api.await_status(runner.id, "idle")
        task = scene.run()
        busy = "is busy ending 1 task that was given up, and it is next"
        scene.waits(task, f"^ends-it-1, the only runner for it, {busy}\\.$")
        page = scene.reader.get(f"{scene.forge.web_url}/runners/{runner.id}/").text
        assert "Ending 1 task that was given up" in page
        given_up = f"Task #{lost} was given up as lost before"
        wait_for(lambda: given_up in worker.said(), "it was told")
        gate.touch()
        scene.starts(task)
        # However often it reported what the program went on to write.
        assert worker.said().count(given_up) == 1
        ended = scene.api.get(f"runners/{runner.id}/")
        assert ended["status"] == "idle"
    finally:
        wire.mend()
        wire.close()


def test_the_template_runs_one_at_a_time(scene: Scene) -> None:
    scene.worker(concurrency=2)
    gate = scene.folder / "gate"
    template = scene.api.template(scene.project, HOLD.format(gate=gate), allow_parallel=False)
    holder, task = (scene.api.run(scene.project, template) for _ in range(2))
    scene.api.wait_until(holder, "running")
    scene.waits(task, f"^#{holder} of this template is running, and it allows one run at a time")
    gate.touch()
    scene.starts(task)


def test_the_projects_limit(scene: Scene) -> None:
    scene.worker(concurrency=4)
    patched = scene.api.send("PATCH", f"projects/{scene.project}/", json={"max_parallel_tasks": 1})
    assert patched.ok, patched.text
    _, gate = scene.hold()
    task = scene.run()
    scene.waits(task, "^The project runs 1 of at most 1 at once\\.$")
    scene.api.send("PATCH", f"projects/{scene.project}/", json={"max_parallel_tasks": 2})
    scene.starts(task)
    gate.touch()


def test_the_runner_is_paused_by_whom_why_and_until_when(scene: Scene) -> None:
    worker = scene.worker("calm-1", concurrency=2)
    path = f"runners/{worker.runner.id}"
    running, gate = scene.hold()
    until = (datetime.now(UTC) + timedelta(days=2)).isoformat()
    scene.api.post(f"{path}/pause", reason="Kernel update", until=until)
    wait_for(lambda: "No longer listening to tasks." in worker.said(), "the worker left its queue")
    assert scene.api.status(worker.runner.id) == "paused"
    task = scene.run()
    who = scene.forge.seeded["username"]
    day = until[:10]
    scene.waits(task, f"^calm-1, .*is paused by {who} until {day} .* UTC: Kernel update\\.$")
    # What it held goes on to its end.
    gate.touch()
    scene.starts(running)
    assert scene.api.task(task)["state"] == "queued"
    scene.api.post(f"{path}/resume")
    scene.starts(task)


def test_a_pause_ends_by_itself(scene: Scene) -> None:
    worker = scene.worker("nap-1")
    until = (datetime.now(UTC) + timedelta(seconds=15)).isoformat()
    scene.api.post(f"runners/{worker.runner.id}/pause", reason="A nap", until=until)
    task = scene.run()
    scene.waits(task, "^nap-1, .* is paused by .*: A nap\\.$")
    scene.starts(task)


def test_hints_of_a_paused_runner_go_to_its_siblings(scene: Scene) -> None:
    paused, other = scene.worker("left-1", concurrency=1), scene.worker("right-1", concurrency=1)
    scene.api.post(f"runners/{paused.runner.id}/pause", reason="Elsewhere")
    tasks = [scene.run() for _ in range(6)]
    ended = scene.api.finished(tasks)
    assert {(one["state"], one["runner"]) for one in ended} == {("succeeded", other.runner.id)}


def test_each_of_several_is_kept_by_something_else(scene: Scene) -> None:
    paused, gone = scene.worker("mix-1"), scene.worker("mix-2")
    scene.runner("mix-3")
    gone.end()
    scene.api.post(f"runners/{paused.runner.id}/pause", reason="Rack moves")
    scene.api.await_status(gone.runner.id, "offline")
    task = scene.run()
    found = scene.waits(task, "^None of the 3 runners that may take it is ready: ")
    assert "mix-1 is paused by" in found and "Rack moves" in found
    assert "mix-2 is offline, last heard" in found and "mix-3 has not connected yet" in found
    gone.start()
    scene.starts(task)


def test_the_runner_is_cut_off_from_the_broker(scene: Scene) -> None:
    worker = scene.worker("loud-1")
    key = f"forge:project:{scene.project}:flood.reply.celery.pidbox"
    with redis.Redis.from_url(scene.forge.broker_url) as administrator:
        # As the runner itself would: what it leaves behind counts against its project.
        for _ in range(20):
            administrator.lpush(key, b"x" * 100_000)
        scene.api.await_status(worker.runner.id, "unhealthy")
        administrator.delete(key)
    task = scene.run()
    scene.waits(task, "^loud-1, the only .*, is cut off from the broker until .* UTC: .*limit")
    scene.api.post(f"runners/{worker.runner.id}/lift-quarantine")
    scene.starts(task)


def test_the_runners_disk_is_full(scene: Scene, small_disk: Path) -> None:
    runner = scene.runner("full-1")
    worker = scene.start(runner, FORGE_RUNNER_DATA=str(small_disk / "journals"))
    ballast = fill(small_disk)
    task = scene.run()
    why = "cannot take tasks: The journal cannot be written: No space left on device"
    sentence = f"^full-1, the only runner that may take it, {why}\\.$"
    scene.waits(task, sentence)
    page = scene.reader.get(f"{scene.forge.web_url}/runners/{runner.id}/").text
    assert "It cannot take tasks" in page and "No space left on device." in page
    # Another worker on the same disk says so before a task has come near it.
    worker.kill()
    worker.start()
    wait_for(lambda: worker.said().count(why[19:]) == 2, "it has looked at its disk at the start")
    scene.waits(task, sentence)
    ballast.unlink()
    scene.starts(task)
    scene.api.await_status(runner.id, "idle")
    assert scene.api.get(f"runners/{runner.id}/")["trouble"] == ""


def test_the_runners_results_do_not_arrive(scene: Scene) -> None:
    """Its heartbeats do: nothing else would say why what has ended there runs on in Forge."""
    front = NarrowFront(scene.forge.web_port)
    try:
        runner = scene.runner("muted-1", concurrency=2)
        worker = scene.start(runner, FORGE_URL=front.url)
        ended = scene.run("echo told too late")
        scene.api.await_status(runner.id, "unhealthy")
        wait_for(lambda: "No longer listening to tasks." in worker.said(), "it takes nothing new")
        task = scene.run()
        why = "Its logs and results do not arrive: .*HTTP 413"
        scene.waits(task, f"^muted-1, the only runner that may take it, cannot take tasks: {why}")
        assert not scene.api.task(ended)["finished_at"]
        front.is_narrow = False
        scene.starts(ended)
        scene.starts(task)
        scene.api.await_status(runner.id, "idle")
        assert scene.api.log(ended) == b"told too late\n"
        worker.end()
    finally:
        front.close()


@pytest.mark.parametrize("how", ["killed", "suspended"])
def test_the_broker_does_not_answer(how: str, scene: Scene) -> None:
    """Nor do its runners blame their hosts for it, when they have noticed."""
    workers = [scene.worker(f"{how}-{number}") for number in (1, 2)]
    scene.starts(scene.run())
    broker = scene.forge.broker
    if how == "killed":
        broker.kill()
    else:
        broker.process.send_signal(signal.SIGSTOP)
    task = scene.run()
    sentence = "^Forge's broker has not answered since .* UTC\\.$"
    scene.waits(task, sentence)
    for worker in workers:
        scene.api.await_status(worker.runner.id, "unhealthy")
        told = scene.api.get(f"runners/{worker.runner.id}/")["trouble"]
        assert told == "Forge's broker does not answer"
    scene.waits(task, sentence)
    wait_for(lambda: "What waits cannot start until it does" in bar_of(scene), "pages say so")
    if how == "killed":
        broker.start()
    else:
        broker.process.send_signal(signal.SIGCONT)
    scene.starts(task)
    wait_for(lambda: not bar_of(scene), "pages say no more of it")


def bar_of(scene: Scene) -> str:
    """What stands on top of the first page."""
    text = scene.reader.get(f"{scene.forge.web_url}/").text
    return text.partition('<div id="notice">')[2].partition("</div>")[0]


FULL = ("maxmemory", "1", "0")
READY = {"database": True, "broker": True, "controller": True}


@pytest.mark.parametrize(
    ("setting", "answer"),
    [
        (FULL, "command not allowed when used memory > 'maxmemory'"),
        (("min-replicas-to-write", "1", "0"), "Not enough good replicas to write"),
    ],
    ids=["its memory is full", "its replicas are missing"],
)
def test_the_broker_refuses_hints(setting: tuple[str, str, str], answer: str, scene: Scene) -> None:
    """Of workers that stay connected, and hear of nothing that could be wrong."""
    worker = scene.worker("heard-1")
    scene.starts(scene.run())
    name, harm, cure = setting
    ready = f"{scene.forge.web_url}/readyz"
    said = scene.forge.controller.said()
    with redis.Redis.from_url(scene.forge.broker_url) as administrator:
        administrator.config_set(name, harm)
        try:
            task = scene.run()
            scene.waits(task, f"^The broker refuses hints since .* UTC: .*{answer}.*\\.$")
            answered = scene.reader.get(ready)
            assert (answered.status_code, answered.json()) == (503, {**READY, "broker": False})
            # Again and again, and every time it is the same sentence.
            again = scene.run()
            scene.waits(again, f"^The broker refuses hints since .* UTC: .*{answer}.*\\.$")
        finally:
            administrator.config_set(name, cure)
    scene.starts(task)
    scene.starts(again)
    new = scene.forge.controller.said().removeprefix(said)
    wait_for(lambda: "hints: works again" in scene.forge.controller.said(), "it says so")
    assert new.count("the broker refuses hints") == 1 and "not published" not in new
    wait_for(lambda: scene.reader.get(ready).json() == READY, "Forge is ready again")
    assert worker.process.poll() is None


def test_no_controller_runs(scene: Scene) -> None:
    worker = scene.worker()
    scene.starts(scene.run())
    scene.forge.controller.kill()
    # The web process itself announces what it queues, but to no runner that is paused.
    scene.api.post(f"runners/{worker.runner.id}/pause", reason="Rack moves")
    task = scene.run()
    scene.api.post(f"runners/{worker.runner.id}/resume")
    scene.waits(task, "^No controller runs since .* UTC, and only it hands out what waits")
    wait_for(lambda: "No controller has led since" in bar_of(scene), "pages say so")
    answered = scene.reader.get(f"{scene.forge.web_url}/readyz")
    assert (answered.status_code, answered.json()) == (200, {**READY, "controller": False})
    scene.forge.controller.start()
    scene.starts(task)
