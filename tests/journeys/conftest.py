"""One deployment for the journeys of a module that leave it whole."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deployment.deployment import Deployment


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("forge")) as deployment:
        yield deployment
