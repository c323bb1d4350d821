"""Chromium before a real deployment. A failure leaves a picture and a trace in build/browser."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from _pytest._code.code import ExceptionRepr

from tests.broker import required
from tests.browser.people import ROLES, Administration, Person
from tests.browser.visitor import PATIENCE_MILLISECONDS, WIDE, Visitor
from tests.deployment.deployment import ROOT, Deployment

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or ""
KEPT = ROOT / "build" / "browser"
# No zone of a server: what a page shows in it was worked out by the page.
ZONE = "Pacific/Auckland"
# No test here is about silent runners; a busy machine must not make one.
PERIODS = {"FORGE_HEARTBEAT_SECONDS": "1", "FORGE_RECONCILE_SECONDS": "1"}
VISITORS = pytest.StashKey[list[Visitor]]()

Visit = Callable[..., Visitor]


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    if not CHROMIUM:
        missing = pytest.fail if "chromium" in required() else pytest.skip
        missing("chromium is not installed")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE_MILLISECONDS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def forge(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A Forge with a runner; asked for after the browser, without which nothing is started."""
    with Deployment(tmp_path_factory.mktemp("forge"), PERIODS) as deployment:
        yield deployment


@pytest.fixture(scope="package")
def project(forge: Deployment) -> int:
    """The project that has a runner."""
    return int(forge.place["project_id"])


@pytest.fixture(scope="package")
def people(forge: Deployment, project: int) -> dict[str, Person]:
    """By role: members of `project`, an outsider, and the administrator as its owner."""
    administration = Administration(forge)
    found = {role: administration.person(role) for role in (*ROLES, "outsider")}
    for role in ROLES:
        administration.join(found[role], project, role)
    found["owner"] = Person(forge.place["username"], forge.place["password"])
    return found


@pytest.fixture
def visit(
    browser: Any, forge: Deployment, people: dict[str, Person], request: pytest.FixtureRequest
) -> Iterator[Visit]:
    """`visit("operator")` is a browser in which that person has signed in; None: nobody has."""
    opened = request.node.stash.setdefault(VISITORS, [])

    def visit(
        who: str | None = "owner", size: tuple[int, int] = WIDE, is_traced: bool = True
    ) -> Visitor:
        visitor = Visitor(browser, forge.place["url"], size=size, zone=ZONE, is_traced=is_traced)
        opened.append(visitor)
        if who is not None:
            visitor.sign_in(people[who].name, people[who].password)
        return visitor

    yield visit
    problems = [problem for visitor in opened for problem in visitor.problems]
    for visitor in opened:
        visitor.close()
    assert not problems, f"the browser complained: {problems}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure says in which folder its picture and its trace are."""
    report = yield
    visitors = item.stash.get(VISITORS, [])
    if report.when == "call" and report.failed and visitors:
        folder = KEPT / re.sub(r"[^\w.-]+", "-", item.nodeid.removeprefix("tests/browser/"))
        kept = []
        for number, visitor in enumerate(visitors, start=1):
            try:
                visitor.keep(folder / str(number))
                kept.append(f"{folder / str(number)}: page.png, trace.zip ({visitor.page.url})")
            except Exception as error:  # the failure itself must not be lost for its picture
                kept.append(f"{folder / str(number)}: not kept, {error}")
        kept.append(f"Open a trace with: .venv/bin/playwright show-trace {folder}/1/trace.zip")
        if isinstance(report.longrepr, ExceptionRepr):
            report.longrepr.addsection("What the browser showed", "\n".join(kept))
    return report
