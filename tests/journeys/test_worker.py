"""The worker's command line: what it needs, what it refuses, what it cannot be talked into."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
import requests

from tests.broker import free_port
from tests.deployment.client import wait_for
from tests.deployment.deployment import ROOT, Deployment, Worker

WRONG_TOKEN = "fgr_" + "x" * 43
CANARY = "canary-of-the-ends-7Kq2"


def start(folder: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the worker until it ends by itself."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    return subprocess.run(
        [sys.executable, "-m", "celery", "-A", "runners.worker", "worker", *options],
        cwd=ROOT,
        env={**environment, "FORGE_RUNNER_DATA": str(folder / "journal"), **variables},
        capture_output=True,
        text=True,
        timeout=90,
    )


def assert_one_line(answer: subprocess.CompletedProcess[str], words: str) -> None:
    assert answer.returncode == 2, answer.stderr
    assert [line for line in answer.stderr.splitlines() if line] == [answer.stderr.strip()]
    assert answer.stderr.startswith("forge: ") and words in answer.stderr


def test_without_settings_it_says_what_to_set(tmp_path: Path) -> None:
    assert_one_line(start(tmp_path), "FORGE_URL is not set")
    assert_one_line(start(tmp_path, FORGE_URL="https://f.example"), "FORGE_RUNNER_TOKEN is not set")
    assert_one_line(start(tmp_path, FORGE_URL="http://[::1"), "not an http(s) address")


def test_a_wrong_token_is_one_line(forge: Deployment, tmp_path: Path) -> None:
    answer = start(tmp_path, FORGE_URL=forge.place["url"], FORGE_RUNNER_TOKEN=WRONG_TOKEN)
    assert_one_line(answer, "does not accept this runner's token")


def test_an_unreachable_forge_is_one_line(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    answer = start(tmp_path, FORGE_URL=url, FORGE_RUNNER_TOKEN=WRONG_TOKEN)
    assert_one_line(answer, "cannot be reached")


def test_something_that_is_not_forge_is_one_line(forge: Deployment, tmp_path: Path) -> None:
    answer = start(tmp_path, FORGE_URL=forge.place["flower_url"], FORGE_RUNNER_TOKEN=WRONG_TOKEN)
    assert_one_line(answer, "does not answer like Forge")


def test_a_second_worker_with_the_same_token_is_refused(forge: Deployment, tmp_path: Path) -> None:
    place = forge.place
    answer = start(tmp_path, FORGE_URL=place["url"], FORGE_RUNNER_TOKEN=place["runner_token"])
    assert_one_line(answer, "already connected")


@pytest.mark.parametrize("option", ["-D", "--detach"])
def test_a_worker_does_not_detach_without_a_word(option: str, tmp_path: Path) -> None:
    # Without settings, so that one which detached would end at once.
    answer = start(tmp_path, option, "--logfile", str(tmp_path / "log"))
    assert_one_line(answer, "service manager")


@pytest.fixture(scope="module")
def green_threads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both libraries that Celery can replace threads with."""
    folder = tmp_path_factory.mktemp("green")
    command = [sys.executable, "-m", "pip", "install", "-q", "--target", str(folder)]
    subprocess.run([*command, "eventlet==0.41.3", "gevent==26.9.0"], check=True)
    return folder


@pytest.mark.parametrize("options", [("-P", "eventlet"), ("--pool=gevent",)], ids=" ".join)
def test_green_threads_are_refused_with_what_to_do(
    options: tuple[str, ...], green_threads: Path, tmp_path: Path
) -> None:
    answer = start(tmp_path, *options, PYTHONPATH=str(green_threads))
    assert answer.returncode == 2 and "Traceback" not in answer.stderr
    # Eventlet says something of its own before.
    *_, last = answer.stderr.splitlines()
    assert last.startswith("forge: ") and "Take -P or --pool off" in last


UNSAFE = [
    "-P",
    "prefork",
    "-c",
    "50",
    "-Q",
    "other",
    "-n",
    "somebody@else",
    "-B",
    "-E",
    "-O",
    "default",
    "--autoscale",
    "10,1",
    "--purge",
    "--prefetch-multiplier",
    "9",
    "--without-heartbeat",
    "-X",
    "tasks",
    "--max-tasks-per-child",
    "1",
]


def test_no_option_changes_what_forge_decides(forge: Deployment, tmp_path: Path) -> None:
    project = forge.api.project("Options")
    runner = forge.api.runner(project, "options-1", concurrency=3)
    waiting = forge.api.run_script(project, "echo $FORGE_RUNNER")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "FORGE_URL": forge.place["url"],
        "FORGE_RUNNER_TOKEN": runner.token,
        "CELERY_BROKER_URL": "redis://elsewhere.example/0",
        "DJANGO_SETTINGS_MODULE": "no.such.settings",
    }
    command = [sys.executable, "-m", "celery", "-A", "runners.worker", "worker", *UNSAFE]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        # `--purge` did not throw the waiting hint away, `-Q` did not turn the worker from it.
        assert forge.api.wait_until(waiting)["runner"] == runner.id
        said = (tmp_path / "log").read_text()
        assert f"runner-{runner.id}@options-1" in said and "concurrency: 3" in said
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def bare_host(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with what ships to a host, and a virtual environment with its requirements."""
    host = tmp_path_factory.mktemp("host")
    shutil.copytree(
        ROOT / "runners" / "worker",
        host / "runners" / "worker",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    shutil.copy(ROOT / "runners" / "__init__.py", host / "runners" / "__init__.py")
    venv.create(host / "venv", with_pip=True)
    python = str(host / "venv" / "bin" / "python")
    requirements = str(host / "runners" / "worker" / "requirements.txt")
    subprocess.run([python, "-m", "pip", "install", "-q", "-r", requirements], check=True)
    return host, python


def test_a_host_needs_only_the_worker_folder_and_its_requirements(
    bare_host: tuple[Path, str], forge: Deployment
) -> None:
    host, python = bare_host
    has_django = subprocess.run([python, "-c", "import django"], capture_output=True)
    assert has_django.returncode != 0
    project = forge.api.project("Bare host")
    runner = forge.api.runner(project, "bare-1")
    forge.worker(runner, python=python, cwd=host)
    task = forge.api.wait_until(forge.api.run_script(project, "echo from a bare host"))
    assert task["state"] == "succeeded" and forge.api.log(task["id"]) == b"from a bare host\n"


def test_the_wheel_that_forge_serves_is_a_whole_runner(
    forge: Deployment, tmp_path: Path, bare_host: tuple[Path, str]
) -> None:
    _, python = bare_host
    target = tmp_path / "installed"
    url = f"{forge.place['url']}/runner/forge_runner-0.1.0-py3-none-any.whl"
    command = [python, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target), url]
    subprocess.run(command, check=True, env={**os.environ, "PIP_NO_INDEX": "1"})
    project = forge.api.project("Wheel")
    worker = forge.worker(forge.api.runner(project, "wheel-1"), python=python, cwd=target)
    task = forge.api.wait_until(forge.api.run_script(project, "echo from a wheel"))
    assert task["state"] == "succeeded"
    worker.end()


def test_flower_shows_the_runner_and_its_task(forge: Deployment) -> None:
    place: dict[str, Any] = forge.place
    task = forge.api.wait_until(forge.api.run_script(place["project_id"], "true"))
    flower = requests.Session()
    flower.auth = (place["username"], place["password"])

    def seen() -> bool:
        workers = flower.get(f"{place['flower_url']}/api/workers?refresh=1", timeout=30).json()
        tasks = flower.get(f"{place['flower_url']}/api/tasks", timeout=30).json()
        return f"{task['id']}.1" in tasks and any(
            name.startswith(f"runner-{place['runner_id']}@") for name in workers
        )

    wait_for(seen, "Flower shows the demo runner and its task")
    assert requests.get(place["flower_url"], timeout=30).status_code == 401


@pytest.fixture(scope="module")
def ends(forge: Deployment, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A task for each way to end, run by a worker that logs everything; its log is `said`."""
    project = forge.api.project("Ends")
    runner = forge.api.runner(project, "ends-1", concurrency=4)
    folder = tmp_path_factory.mktemp("ends")
    log = folder / "log"
    command = [sys.executable, "-m", "celery", "-A", "runners.worker", "worker", "-l", "DEBUG"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "FORGE_URL": forge.place["url"]}
    environment |= {"FORGE_RUNNER_TOKEN": runner.token, "FORGE_RUNNER_DATA": str(folder / "data")}
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    secret = {"secrets": {"PASSWORD": CANARY}}
    groups = [forge.api.variable_group(project, "secret", **secret)]
    scripts = {
        "succeeded": ("echo $PASSWORD", {}),
        "failed": ("echo $PASSWORD; exit 3", {}),
        "timed out": ("sleep 100", {"timeout_seconds": 1}),
        "stopped": ("echo started; sleep 100", {}),
    }
    tasks = {
        name: forge.api.run_script(project, script, variable_groups=groups, **fields)
        for name, (script, fields) in scripts.items()
    }
    forge.api.await_output(tasks["stopped"], b"started")
    forge.api.post(f"tasks/{tasks['stopped']}/stop")
    found: dict[str, Any] = {name: forge.api.wait_until(task) for name, task in tasks.items()}
    process.terminate()
    process.wait(60)
    return {**found, "said": log.read_text()}


@pytest.mark.parametrize(
    ("name", "state", "shown"),
    [
        ("succeeded", "succeeded", "SUCCESS"),
        ("failed", "failed", "FAILURE"),
        ("timed out", "failed", "FAILURE"),
        ("stopped", "stopped", "REVOKED"),
    ],
)
def test_flower_shows_how_a_task_ended_and_why(
    name: str, state: str, shown: str, forge: Deployment, ends: dict[str, Any]
) -> None:
    task = ends[name]
    assert task["state"] == state and task["exit_code"] == {"succeeded": 0, "failed": 3}.get(name)
    session = requests.Session()
    session.auth = (forge.place["username"], forge.place["password"])
    url = f"{forge.place['flower_url']}/api/task/info/{task['id']}.1"

    def ended() -> dict[str, Any] | None:
        answer = session.get(url, timeout=30)
        return answer.json() if answer.ok and answer.json()["state"] == shown else None

    seen: dict[str, Any] = wait_for(ended, f"Flower shows {name} as {shown}")
    assert task["reason"] in (seen["exception"] or seen["result"])
    assert seen["traceback"] is None


def test_the_workers_log_says_in_a_line_how_a_task_ended(ends: dict[str, Any]) -> None:
    said = ends["said"]
    for name in ("failed", "timed out", "stopped"):
        line = f"Task forge.run_task[{ends[name]['id']}.1] did not succeed: {ends[name]['reason']}"
        assert line in said
    assert "Traceback" not in said and "Error" not in said and CANARY not in said


@pytest.mark.parametrize("is_chunked", [False, True], ids=["with its length", "in chunks"])
def test_a_body_larger_than_anything_asked_for_is_refused(
    is_chunked: bool, forge: Deployment
) -> None:
    piece = b"x" * 1024 * 1024
    body: Any = iter([piece] * 8) if is_chunked else piece * 8
    headers = {"Authorization": f"Bearer {forge.place['runner_token']}"}
    url = f"{forge.place['url']}/runner/v1/report"
    try:
        answer = requests.post(url, data=body, headers=headers, timeout=30)
        assert answer.status_code == 413 and answer.json()["code"] == "too_large"
    except requests.ConnectionError:
        pass  # the connection was closed while the body was still being sent: refused as well
    assert requests.get(f"{forge.place['url']}/healthz", timeout=30).ok


def test_no_level_of_logging_shows_the_token(forge: Deployment, tmp_path: Path) -> None:
    project = forge.api.project("Talkative")
    runner = forge.api.runner(project, "talkative-1")
    options = ("-l", "DEBUG")
    worker = Worker(
        forge.place["url"], runner, tmp_path, python=sys.executable, cwd=ROOT, options=options
    )
    try:
        task = forge.api.wait_until(forge.api.run_script(project, "true"))
        assert task["state"] == "succeeded"
    finally:
        worker.end()
    assert "DEBUG" in worker.said() and runner.token not in worker.said()


def test_of_two_workers_that_start_at_once_with_one_token_one_stays(
    forge: Deployment, tmp_path: Path
) -> None:
    project = forge.api.project("Twins")
    runner = forge.api.runner(project, "twin-1")
    workers = []
    for name in ("left", "right"):
        (tmp_path / name).mkdir()
        url, folder = forge.place["url"], tmp_path / name
        workers.append(Worker(url, runner, folder, python=sys.executable, cwd=ROOT))
    try:
        wait_for(lambda: any(one.process.poll() is not None for one in workers), "one is refused")
        forge.api.await_status(runner.id, "idle")
        refused, stays = sorted(workers, key=lambda one: one.process.poll() is None)
        assert refused.process.poll() == 2 and "already connected" in refused.said()
        task = forge.api.wait_until(forge.api.run_script(project, "true"))
        assert task["state"] == "succeeded" and stays.process.poll() is None
    finally:
        for worker in workers:
            worker.end()


def test_what_is_no_hint_in_a_queue_is_dropped_in_a_line(forge: Deployment) -> None:
    project = forge.api.project("Rubbish in a queue")
    worker = forge.worker(forge.api.runner(project, "rubbish-1"))
    entries = ["hint", "{}", "5", "[]", "null", b"\xff\xfe", '{"body": 5, "properties": {}}']
    with redis.Redis.from_url(forge.place["broker_url"]) as broker:
        for entry in entries:
            broker.lpush(f"forge:project:{project}:tasks", entry)
            task = forge.api.wait_until(forge.api.run_script(project, "echo here"))
            assert task["state"] == "succeeded", worker.said()
    said = worker.said()
    assert worker.process.poll() is None and "Traceback" not in said
    assert said.count("is no hint of Forge's and was dropped") == len(entries)
    worker.end()


def test_what_is_no_command_on_the_control_channel_is_passed_over(forge: Deployment) -> None:
    project = forge.api.project("Rubbish on the control channel")
    worker = forge.worker(forge.api.runner(project, "rubbish-2"))
    empty = {"properties": {"delivery_tag": "x", "delivery_info": {}}, "headers": {}}
    nested = "[" * 100_000
    bodies = ("5", "[]", "!", '{"method": 5}', '{"method": "no such command"}', nested)
    messages = ["ping", "5", "[]", "null", "{}", b"\xff\xfe", '{"body": 5, "properties": {}}']
    messages.append(nested)
    messages += [json.dumps({**empty, "body": body}) for body in bodies]
    channel = f"forge:project:{project}:/0.celery.pidbox"
    with redis.Redis.from_url(forge.place["broker_url"]) as broker:
        for message in messages:
            wait_for(partial(broker.publish, channel, message), "it listens")
            task = forge.api.wait_until(forge.api.run_script(project, "echo here"))
            assert task["state"] == "succeeded", worker.said()
        wait_for(partial(broker.publish, channel, "ping"), "it still listens")
    assert worker.process.poll() is None
    worker.end()
