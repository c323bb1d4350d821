"""The queue in a browser: it is live, and what waits is stopped one by one or all at once."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from tests.browser.conftest import ZONE, Visit
from tests.browser.visitor import PHONE
from tests.deployment.deployment import Deployment
from tests.moments import NOW, TOLD

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect


@pytest.fixture
def place(forge: Deployment) -> tuple[int, int]:
    """A project without runners, and a template of it: what is run there waits."""
    project = forge.api.project(f"Without runners {uuid4().hex[:6]}")
    return project, forge.api.template(project, "true", name="Waits", allow_parallel=True)


def test_what_waits_comes_and_goes_while_one_looks(
    visit: Visit, forge: Deployment, place: tuple[int, int]
) -> None:
    project, template = place
    first = forge.api.run(project, template)
    visitor = visit("owner")
    page = visitor.page
    page.goto(f"/projects/{project}/queue/")
    expect(page.locator(f"#task-{first}")).to_be_visible()
    expect(page.get_by_text("This project has no runners yet.")).to_be_visible()
    second, third = (forge.api.run(project, template) for _ in range(2))
    expect(page.locator(f"#task-{third}")).to_be_visible()
    expect(page.locator(".place")).to_have_text(["1", "2", "3"])
    page.get_by_role("link", name=f"Stop #{second}").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop task").click()
    expect(page.locator(f"#task-{second}")).to_have_count(0)
    expect(page.get_by_text(f"Stopped #{second}, Waits.")).to_be_visible()
    expect(page.locator(f"#task-{third}")).to_be_focused()
    expect(page.locator(".place")).to_have_text(["1", "2"])
    page.get_by_role("link", name="Stop all").click()
    question = page.get_by_role("dialog", name="Stop 2 queued tasks?")
    expect(question).to_be_visible()
    assert "/queue/" in page.url
    late = forge.api.run(project, template)
    page.get_by_role("button", name="Stop 2 queued tasks").click()
    expect(page.get_by_text("Stopped 2 tasks that waited.")).to_be_visible()
    expect(page.locator("td a.name")).to_have_count(1)
    expect(page.locator(f"#task-{late}")).to_be_visible()
    assert forge.api.task(first)["state"] == forge.api.task(third)["state"] == "stopped"
    # Leave nothing behind that waits.
    forge.api.post(f"projects/{project}/stop-all")


def test_a_long_stop_goes_on_by_itself(visit: Visit, place: tuple[int, int]) -> None:
    """The page of a stop that is under way sends for the next part; here the server is told for."""
    project, _ = place
    page = visit("owner").page
    page.goto(f"/projects/{project}/stop-all/")
    asked: list[str] = []

    def answer(route: Any) -> None:
        asked.append(route.request.post_data or "")
        form = "" if len(asked) > 2 else "<form method='post' data-goes-on></form>"
        script = "<script type='module' src='/static/forge/page.js'></script>"
        around = "<dialog id='keys'></dialog>"
        body = f"<!doctype html><title>Part</title><body>{around}{form}<p>Part {len(asked)}</p>"
        route.fulfill(body=body + script, content_type="text/html")

    page.route(f"**/projects/{project}/stop-all/", answer)
    page.evaluate("document.querySelector('main').innerHTML = '<form method=post></form>'")
    page.evaluate("document.querySelector('main form').submit()")
    expect(page.get_by_text("Part 3")).to_be_visible()
    assert len(asked) == 3


def test_a_sentence_says_its_times_in_the_readers_zone(
    visit: Visit, forge: Deployment, place: tuple[int, int]
) -> None:
    project, template = place
    runner = forge.api.runner(project, "calm-1")
    until = datetime.now(UTC) + timedelta(days=40)
    forge.api.post(f"runners/{runner.id}/pause", reason="Update", until=until.isoformat())
    task = forge.api.run(project, template)
    there = until.astimezone(ZoneInfo(ZONE))
    for address in (f"/projects/{project}/queue/", f"/tasks/{task}/"):
        page = visit("owner").page
        page.goto(address)
        time = page.locator("main time[data-time=minute]").first
        year = "" if there.year == datetime.now(ZoneInfo(ZONE)).year else f" {there.year}"
        expect(time).to_have_text(f"{there.day} {there:%b}{year} {there:%H:%M}")
        expect(time).to_have_attribute("title", f"{there:%Y-%m-%d %H:%M} {ZONE}")
    forge.api.post(f"projects/{project}/stop-all")


def test_what_ends_soon_is_told_with_its_hour(visit: Visit, project: int) -> None:
    page = visit("owner").page
    page.goto(f"/projects/{project}/queue/")
    now = datetime.now(ZoneInfo(ZONE))
    tomorrow = (now + timedelta(days=1)).replace(hour=0, minute=30)
    later = now + timedelta(days=3)
    for at in (tomorrow, later):
        write = "at => document.querySelector('main').insertAdjacentHTML('beforeend', at)"
        page.evaluate(write, f'<time data-time="moment" datetime="{at.isoformat()}">?</time>')
    times = page.locator("main > time")
    expect(times.first).to_have_text(f"{tomorrow.day} {tomorrow:%b} 00:30")
    expect(times.last).to_have_text(re.compile(rf"^{later.day} {later:%b}$|^{later:%Y-%m-%d}$"))


def test_the_page_tells_a_moment_as_the_server_does(visit: Visit, project: int) -> None:
    page = visit("owner").page
    page.clock.set_fixed_time(NOW.replace(tzinfo=ZoneInfo(ZONE)))
    page.goto(f"/projects/{project}/queue/")
    # Without a zone it is one of the reader's clock.
    times = [
        f'<time data-time="moment" datetime="{(NOW + apart).isoformat()}">?</time>'
        for apart in TOLD
    ]
    page.evaluate(
        "(times) => document.querySelector('main').insertAdjacentHTML('beforeend', times)",
        "".join(times),
    )
    expect(page.locator("main > time")).to_have_text(list(TOLD.values()))


def test_a_phone_shows_the_queue(visit: Visit, forge: Deployment, place: tuple[int, int]) -> None:
    project, template = place
    task = forge.api.run(project, template)
    visitor = visit("owner", size=PHONE)
    visitor.page.goto(f"/projects/{project}/tasks/")
    visitor.page.get_by_role("main").get_by_role("link", name="Queue").click()
    expect(visitor.page.locator(f"#task-{task}")).to_be_visible()
    assert not visitor.excess(), visitor.too_wide()
    for path in ("stop-all/", "templates/"):
        visitor.page.goto(f"/projects/{project}/{path}")
        assert not visitor.excess(), visitor.too_wide()
    forge.api.post(f"projects/{project}/stop-all")


def test_a_template_is_disabled_and_enabled_with_a_keyboard(
    visit: Visit, forge: Deployment, place: tuple[int, int]
) -> None:
    _, template = place
    page = visit("owner").page
    page.goto(f"/templates/{template}/")
    page.locator("summary", has_text="More").focus()
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Disable").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/disable/")
    expect(page.get_by_label("Reason")).to_be_focused()
    page.keyboard.type("Not today")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/templates/{template}/")
    expect(page.get_by_role("heading", name="Disabled: Not today")).to_be_visible()
    expect(page.get_by_role("main").get_by_role("button", name="Run")).to_have_count(0)
    page.get_by_role("button", name="Enable").press("Enter")
    expect(page.get_by_role("main").get_by_role("button", name="Run")).to_be_visible()
    page.goto(f"/templates/{template}/history/")
    expect(page.locator(".history b")).to_have_text(["Enabled", "Disabled", "Created"])
