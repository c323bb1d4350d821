"""The admin and the pages are one program to whoever looks at them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.browser.conftest import Visit
from tests.deployment.deployment import Deployment

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect

GROUND = "getComputedStyle(document.body).backgroundColor"


def test_light_and_dark_are_chosen_once_for_pages_and_admin(visit: Visit) -> None:
    page = visit().page
    page.emulate_media(color_scheme="light")
    grounds = {}
    for place in ("/", "/admin/"):
        page.goto(place)
        grounds[place] = page.evaluate(GROUND)
    assert grounds["/"] == grounds["/admin/"]
    page.get_by_role("button", name="Dark").click()
    dark = page.evaluate(GROUND)
    assert dark != grounds["/admin/"]
    page.goto("/")
    assert page.evaluate(GROUND) == dark
    page.goto("/admin/runners/runner/")
    assert page.evaluate(GROUND) == dark
    expect(page.get_by_role("button", name="Dark")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("link", name="Back to the pages").click()
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert "/admin/" not in page.url


@pytest.mark.parametrize(
    ("place", "columns"),
    [
        ("runners/runner", ("contact", "trouble", "paused_until", "last_heartbeat_at")),
        ("tasks/task", ("state_badge", "template", "runner", "created_by", "created_at")),
    ],
    ids=["runners", "tasks"],
)
def test_what_one_looks_for_first_is_in_sight_on_a_laptop(
    place: str, columns: tuple[str, ...], visit: Visit, forge: Deployment, project: int
) -> None:
    name = f"In sight: {len(columns)}, however long its name is"
    name += " " + "w" * (80 - len(name) - 1)
    forge.api.wait_until(forge.api.run_script(project, "true", name=name))
    page = visit().page
    page.goto(f"/admin/{place}/")
    around = page.locator("#changelist-form").bounding_box()
    for column in columns:
        box = page.locator(f"th.column-{column}").bounding_box()
        assert box["x"] + box["width"] <= around["x"] + around["width"], column


@pytest.mark.parametrize("place", ["runners/runner", "tasks/task", "tasks/tasktemplate"])
def test_no_list_is_wider_than_a_desk(
    place: str, visit: Visit, forge: Deployment, project: int
) -> None:
    runner = forge.api.runner(project, f"desk-{place.replace('/', '-')}", tags=["data-centre-west"])
    until = datetime.now(UTC) + timedelta(hours=5)
    pause = {"reason": "Kernel update", "until": until.isoformat()}
    forge.api.post(f"runners/{runner.id}/pause", **pause)
    name = f"Certificates of all zones, for {place}"
    name += " " + "w" * (80 - len(name) - 1)
    forge.api.wait_until(forge.api.run_script(project, "exit 3", name=name))
    page = visit().page
    page.goto(f"/admin/{place}/")
    expect(page.locator("#result_list")).to_be_visible()
    widths = "(list) => [list.scrollWidth, list.clientWidth]"
    needed, there = page.locator(".results").evaluate(widths)
    assert needed <= there
