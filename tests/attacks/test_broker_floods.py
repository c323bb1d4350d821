"""A thief floods the broker with one runner's token: cut off, and nobody else is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from django.utils import timezone

from forge.controller.watch import WatchLoop
from forge.quickstart.broker import CLIENT_LIMITS
from runners.broker import administrator, project_prefix
from runners.models import Runner
from runners.operations import NewRunner, create_runner
from tests import broker as real_broker
from tests.attacks.broker_flood import ANNOUNCE, ATTACKS
from tests.cast import Cast, cast
from tests.deployment.client import wait_for
from tests.runners.conftest import forget_clients, real

__all__ = ["cast", "real"]
pytestmark = pytest.mark.django_db(transaction=True)

FLOOD = Path(__file__).with_name("broker_flood.py")
# Room for what a controller that a busy machine keeps waiting sees late.
MEMORY = "512mb"
# The watch ends everybody's connections to learn whose names they are. A hint that was popped in
# that very moment is lost, as with a lost network; the reconciler puts it out again.
ON_THE_WAY = {"connections with long names": 1}


@pytest.fixture(scope="module", params=["valkey", "redis"])
def broker_url(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker as docs/broker.md asks for it."""
    binary = real_broker.binaries().get(request.param)
    if binary is None:
        if request.param in real_broker.required():
            pytest.fail(f"{request.param} is required and not installed")
        pytest.skip(f"no {request.param} on this machine")
    options = [word for line in CLIENT_LIMITS for word in _option(line)]
    folder = tmp_path_factory.mktemp(request.param)
    with real_broker.running(binary, folder, "--maxmemory", MEMORY, *options) as url:
        yield url


def _option(line: str) -> list[str]:
    name, _, value = line.partition(" ")
    return [f"--{name}", *value.split()]


def new_runner(cast: Cast, project: Any, name: str) -> NewRunner:
    return create_runner(
        project=project,
        name=name,
        tags=[],
        concurrency=1,
        takes_untagged=True,
        by=cast.owner,
        now=timezone.now(),
    )


@pytest.fixture
def watching() -> Iterator[None]:
    """The controller's watch, as it runs there."""
    is_leading, is_closing = threading.Event(), threading.Event()
    is_leading.set()
    loop = WatchLoop(is_leading, is_closing)
    loop.start()
    yield
    is_closing.set()
    loop.join(30)


@dataclass
class Bystander:
    """Another project: hints are published and consumed all the time."""

    url: str
    new: NewRunner
    seconds: list[float] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    # Hints that were taken, and on their way when the connection was ended.
    lost: int = 0

    def __post_init__(self) -> None:
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        key = f"{project_prefix(self.new.runner.project_id)}tasks"
        port = urlsplit(self.url).port or 0
        own = redis.Redis(
            port=port, username=self.new.runner.account, password=self.new.token, socket_timeout=20
        )
        publisher = redis.Redis.from_url(self.url, socket_timeout=20)
        while not self._is_over.is_set():
            begun = time.perf_counter()
            try:
                publisher.lpush(key, b"h" * 900)
                self.lost += own.brpop([key], timeout=10) is None
            except redis.RedisError as error:
                self.refusals.append(repr(error))
            self.seconds.append(time.perf_counter() - begun)
            self._is_over.wait(0.005)
        own.close()
        publisher.close()

    def end(self) -> None:
        self._is_over.set()
        self._thread.join(60)


def flood(kind: str, url: str, new: NewRunner) -> subprocess.Popen[str]:
    arguments = [str(urlsplit(url).port), new.runner.account, new.token]
    arguments.append(project_prefix(new.runner.project_id))
    command = [sys.executable, str(FLOOD), kind, *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, preexec_fn=real_broker.die_with_parent
    )


@pytest.mark.parametrize("kind", ATTACKS)
def test_a_flood_is_cut_off_and_another_project_is_refused_nothing(
    kind: str, real: str, watching: None, cast: Cast
) -> None:
    thief = new_runner(cast, cast.outsiders_project, "thief")
    # A sibling that does nothing wrong must not be taken for the author.
    sibling = new_runner(cast, cast.outsiders_project, "sibling")
    bystander = Bystander(real, new_runner(cast, cast.project, "web-1"))
    attack = flood(kind, real, thief)
    try:
        told = json.loads(attack.communicate(timeout=90)[0])
    finally:
        attack.kill()
        bystander.end()
    print(
        f"\n{kind}: cut off after {told['seconds']} s and {told['megabytes']} MB; another "
        f"project's {len(bystander.seconds)} hints took {1000 * max(bystander.seconds):.0f} ms "
        f"at most, {1000 * sorted(bystander.seconds)[len(bystander.seconds) // 2]:.1f} in the "
        f"median, {len(bystander.refusals)} refused, {bystander.lost} lost"
    )
    assert bystander.refusals == []
    assert bystander.lost <= ON_THE_WAY.get(kind, 0)
    wait_for(
        lambda: Runner.objects.get(pk=thief.runner.pk).is_quarantined(now=timezone.now()),
        "the thief's row says so",
    )
    others = Runner.objects.exclude(pk=thief.runner.pk)
    assert not others.exclude(quarantined_until=None).exists(), sibling
    wait_for(lambda: _memory() < 32 * 1024**2, "what was piled up is gone")


def _memory() -> int:
    return int(administrator().info("memory")["used_memory"])


@pytest.fixture
def lax(settings: Any, tmp_path: Path, request: Any) -> Iterator[str]:
    """A broker of each kind as it comes, without limits on what one client may hold."""
    binary = real_broker.binaries().get(request.param)
    if binary is None:
        pytest.skip(f"no {request.param} on this machine")
    with real_broker.running(binary, tmp_path, "--maxmemory", MEMORY) as url:
        settings.REDIS_URL = settings.FORGE_RUNNER_BROKER_URL = url
        forget_clients()
        yield url
        forget_clients()


@pytest.mark.parametrize("lax", ["valkey", "redis"], indirect=True)
def test_on_a_broker_without_limits_an_announcement_is_cut_off_all_the_same(
    lax: str, cast: Cast, request: Any
) -> None:
    """Here others may be refused for a moment: that is why the start check asks for limits."""
    thief = new_runner(cast, cast.outsiders_project, "thief")
    request.getfixturevalue("watching")
    bystander = Bystander(lax, new_runner(cast, cast.project, "web-1"))
    attack = flood(ANNOUNCE, lax, thief)
    try:
        told = json.loads(attack.communicate(timeout=90)[0])
        served = len(bystander.seconds)
        wait_for(lambda: len(bystander.seconds) > served + 20, "hints flow")
        refusals = len(bystander.refusals)
        served = len(bystander.seconds)
        wait_for(lambda: len(bystander.seconds) > served + 20, "hints flow")
    finally:
        attack.kill()
        bystander.end()
    print(f"\nwithout limits: cut off after {told['seconds']} s, {refusals} hints refused")
    assert len(bystander.refusals) == refusals
    wait_for(
        lambda: Runner.objects.get(pk=thief.runner.pk).is_quarantined(now=timezone.now()),
        "the thief's row says so",
    )
