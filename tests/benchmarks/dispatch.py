"""From `POST` to the first instruction of the task's process, beside plain Celery's.

Starts a quick start in a temporary folder, runs one task after another on its idle runner, then
does the same with a plain Celery worker (threads pool, Redis results) on the same broker. Prints
medians and 99th percentiles, their ratio, and how Forge's time divides into steps. Times are of
this machine at this moment; the ratio is what holds.

    python tests/benchmarks/dispatch.py [--tasks 200]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = "echo $EPOCHREALTIME"
STEPS = ("request", "publish", "claim", "spawn")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=200)
    count = parser.parse_args().tasks
    with tempfile.TemporaryDirectory() as folder, quick_start(Path(folder)) as place:
        forge = measure_forge(place, count)
        spawn = measure_spawn(count)
        with plain_worker(place["broker_url"]) as run:
            plain = [measure_plain(run) for _ in range(count)]
    report(forge, spawn, plain)


@contextmanager
def quick_start(folder: Path) -> Iterator[dict[str, Any]]:
    """A running Forge; yields what its quickstart.json says."""
    command = [sys.executable, "manage.py", "quickstart", "--data", str(folder), "--port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        yield _await_place(folder / "quickstart.json", process)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def _await_place(path: Path, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    for _ in range(1200):
        if path.exists():
            place: dict[str, Any] = json.loads(path.read_text())
            if _is_idle(place):
                return place
        if process.poll() is not None:
            raise SystemExit("the quick start ended; run it by hand to see why")
        time.sleep(0.1)
    raise SystemExit("the quick start did not get ready within two minutes")


def _is_idle(place: dict[str, Any]) -> bool:
    with session(place) as api:
        runner = api.get(f"{place['url']}/api/v1/runners/{place['runner_id']}/").json()
        tasks = api.get(f"{place['url']}/api/v1/projects/{place['project_id']}/tasks/").json()
    finished = all(task["finished_at"] for task in tasks["results"])
    return runner["status"] == "idle" and bool(tasks["results"]) and finished


def session(place: dict[str, Any]) -> requests.Session:
    api = requests.Session()
    api.headers["Authorization"] = f"Bearer {place['api_token']}"
    return api


def measure_forge(place: dict[str, Any], count: int) -> list[dict[str, float]]:
    with session(place) as api:
        project = f"{place['url']}/api/v1/projects/{place['project_id']}"
        body = {"name": "bench", "app": "bash", "script": SCRIPT, "allow_parallel": True}
        template = api.post(f"{project}/templates/", json=body).json()["id"]
        one_task(api, place["url"], project, template)  # warm
        return [one_task(api, place["url"], project, template) for _ in range(count)]


def one_task(api: requests.Session, url: str, project: str, template: int) -> dict[str, float]:
    """Seconds of one task: in all, and until it was created, claimed and its process existed."""
    sent = time.time()
    task = api.post(f"{project}/tasks/", json={"template": template}).json()
    answered = time.time()
    # Asking while it is on its way would make the very process busy that is measured.
    time.sleep(0.2)
    while not task["finished_at"]:
        time.sleep(0.05)
        task = api.get(f"{url}/api/v1/tasks/{task['id']}/").json()
    first = float(api.get(f"{url}/api/v1/tasks/{task['id']}/log").text)
    return {
        "total": first - sent,
        "created": _moment(task["created_at"]) - sent,
        "claimed": _moment(task["claimed_at"]) - sent,
        "answered": answered - sent,
    }


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def measure_spawn(count: int) -> list[float]:
    """The supervisor alone: from the order to the program's first instruction."""
    sys.path.insert(0, str(ROOT))
    from runners.worker.supervision import ForkServer

    server = ForkServer()
    server.start()
    times = []
    for _ in range(count):
        begun = time.time()
        process = server.spawn(
            ["bash", "-c", SCRIPT], environment=dict(os.environ), directory=Path("/")
        )
        with os.fdopen(process.output, "rb") as output:
            times.append(float(output.read()) - begun)
        process.wait()
    server.close()
    return times


@contextmanager
def plain_worker(broker: str) -> Iterator[Any]:
    """A plain Celery worker on another database of the same broker; yields its task."""
    os.environ["PLAIN_BROKER"] = broker.rpartition("/")[0] + "/9"
    folder = Path(__file__).parent / "plain"
    command = [sys.executable, "-m", "celery", "-A", "plain_celery", "worker", "-P", "threads"]
    process = subprocess.Popen(
        [*command, "-c", "2"], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    sys.path.insert(0, str(folder))
    from plain_celery import run  # type: ignore[import-not-found]

    try:
        run.delay().get(timeout=60)  # it is up
        yield run
    finally:
        process.terminate()
        process.wait(60)


def measure_plain(run: Any) -> float:
    sent = time.time()
    first = float(run.delay().get(timeout=60))
    time.sleep(0.02)
    return first - sent


def report(forge: list[dict[str, float]], spawn: list[float], plain: list[float]) -> None:
    total = [row["total"] for row in forge]
    print(f"{'':24}{'median':>10}{'p99':>10}   milliseconds, {len(total)} tasks")
    for name, values in (("Forge", total), ("plain Celery", plain)):
        print(f"{name:24}{1000 * statistics.median(values):10.1f}{1000 * p99(values):10.1f}")
    ratio = statistics.median(total) / statistics.median(plain)
    print(f"{'ratio':24}{ratio:10.1f}{p99(total) / p99(plain):10.1f}")
    print()
    for name, seconds in zip(STEPS, steps_of(forge, spawn), strict=True):
        share = 100 * seconds / statistics.median(total)
        print(f"{name:24}{1000 * seconds:10.1f}{share:9.0f} %")
    print()
    print("request: until the row is written; publish: commit, hint, and the runner's claim on")
    print("its way; claim: Forge's decision and the job's way back; spawn: the supervised process.")


def steps_of(forge: list[dict[str, float]], spawn: list[float]) -> tuple[float, ...]:
    """Median seconds of each step; the claim is what the others leave of the total."""
    created = statistics.median(row["created"] for row in forge)
    publish = statistics.median(row["claimed"] - row["created"] for row in forge)
    after = statistics.median(row["total"] - row["claimed"] for row in forge)
    alone = statistics.median(spawn)
    return created, publish, max(after - alone, 0.0), alone


def p99(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]


if __name__ == "__main__":
    main()
