"""A deployment on each kind of broker, an innocent project in it, and thieves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import broker as real_broker
from tests.attacks.scene import QUOTAS, Innocent, Scene
from tests.attacks.thief import Thief
from tests.attacks.wire import DirectWire


@pytest.fixture(scope="session", params=["redis", "valkey"])
def forge(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    binary = real_broker.binaries().get(request.param)
    if binary is None:
        if request.param in real_broker.required():
            pytest.fail(f"{request.param} is required and not installed")
        pytest.skip(f"no {request.param} on this machine")
    with Scene(tmp_path_factory.mktemp("forge"), broker=[binary], server=QUOTAS) as scene:
        yield scene


@pytest.fixture(scope="module")
def innocent(forge: Scene, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Innocent]:
    """Another project's task runs beside all attacks of a module, and must end well."""
    found = Innocent(forge, tmp_path_factory.mktemp("gate") / "gate")
    found.begin()
    yield found
    found.end()


@pytest.fixture
def thief(forge: Scene, request: pytest.FixtureRequest) -> Thief:
    """Holds the token of a runner of a project of its own."""
    return forge.steal(f"stolen-{request.function.__name__.removeprefix('test_')[:20]}")


@pytest.fixture
def sibling(forge: Scene) -> Iterator[Thief]:
    """Holds the token of another runner of the very project whose tasks it wants to spoil."""
    found = forge.steal("sibling", forge.seeded["project_id"])
    found.connect()
    yield found
    forge.api.remove_runner(found.runner.id)


@pytest.fixture
def wire(forge: Scene, thief: Thief) -> Iterator[DirectWire]:
    found = forge.direct(thief)
    yield found
    found.close()
