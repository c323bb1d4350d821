"""What is suspected of an attempt that nobody watches over, by its control group."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from runners.worker.origin import may_be_from
from runners.worker.processes import cgroup_of
from runners.worker.remains import Remains
from tests.deployment.client import wait_for
from tests.worker.heirs import GONE, UNSURE, Heir, is_over, trail

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and a subreaper")


@pytest.mark.parametrize(
    ("origin", "cgroup", "is_suspected"),
    [
        ("/system.slice/runner.service", "/system.slice/runner.service", True),
        ("/system.slice/runner.service", "/system.slice/runner.service/made", True),
        ("/system.slice/runner.service", "/user.slice/user-0.slice/session-4.scope", True),
        ("/system.slice/runner.service", "/system.slice/run-r1.scope", True),
        ("/system.slice/runner.service", "/system.slice/cron.service", False),
        ("/system.slice/runner.service", "/system.slice/runner.service2", False),
        ("/system.slice/runner.service", "/user.slice/user@0.service/init.scope", False),
        ("/user.slice/user-7.slice/session-2.scope", "/system.slice/cron.service", False),
        ("/", "/system.slice/cron.service", False),
        ("/", "/made", True),
        (None, "/system.slice/cron.service", True),
    ],
)
def test_what_a_login_or_a_scope_moved_is_suspected_and_services_are_not(
    origin: str | None, cgroup: str, is_suspected: bool
) -> None:
    lines = "4:memory:/host\n0::{}\n"
    whole = None if origin is None else lines.format(origin)
    assert may_be_from(whole, lines.format(cgroup)) == is_suspected


def _is_empty(file: Path) -> bool:
    return not file.read_text()


@pytest.fixture
def groups() -> Iterator[Callable[[str], Path]]:
    """Makes control groups at the top of a hierarchy, outside of this test's own."""
    made: list[Path] = []
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    places = [mount[1] for mount in mounts if mount[2].startswith("cgroup")]

    def make(name: str) -> Path:
        mine = cgroup_of(os.getpid())
        for place in map(Path, places):
            own = re.search(rf":[^:]*\b{place.name}\b[^:]*:(/.+)$", mine, re.M)
            if own and os.access(place, os.W_OK):
                made.append(place / name)
                made[-1].mkdir()
                return made[-1]
        pytest.skip("no hierarchy of control groups that this test could leave its own of")

    yield make
    for path in made:
        procs = path / "cgroup.procs"
        wait_for(partial(_is_empty, procs), "nothing is in it any more")
        path.rmdir()


@pytest.mark.parametrize(("kind", "expected"), [("scope", UNSURE), ("service", GONE)])
def test_an_orphan_that_was_moved_into_a_scope_is_suspected(
    kind: str, expected: Remains, groups: Callable[[str], Path], heir: Heir, folder: Path
) -> None:
    process = heir.leave()
    name = f"forge-test-{os.getpid()}.{kind}"
    groups(name).joinpath("cgroup.procs").write_text(str(process.pid))
    assert trail(folder, heir.origin).end() == expected
    process.kill()


def test_an_orphan_of_a_login_is_spared_in_the_folder(
    groups: Callable[[str], Path], heir: Heir, folder: Path
) -> None:
    """Such as the `tmux` of somebody who looks at it."""
    process = heir.leave(folder=folder)
    groups(f"forge-test-{os.getpid()}.scope").joinpath("cgroup.procs").write_text(str(process.pid))
    assert trail(folder, heir.origin).end() == UNSURE
    assert not is_over(process)
    process.kill()
