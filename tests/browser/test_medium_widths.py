"""The lists below a desk's width: nothing runs out of its panel, and what matters is still said."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.browser.conftest import Visit
from tests.browser.visitor import PHONE, WIDE, Visitor
from tests.deployment.deployment import Deployment

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect

# Below and above where the sections stand beside the page, and a small laptop's.
WIDTHS = (768, 961, 1024)
LISTS = (
    "/", "/runners/", "/projects/{project}/", "/projects/{project}/tasks/",
    "/projects/{project}/tasks/?state=active&since=7d", "/projects/{project}/queue/",
    "/projects/{project}/runners/", "/projects/{project}/templates/",
    "/projects/{project}/audit/",
)  # fmt: skip
REASON = "The rack gets new power supplies, then a kernel, then a look at its disks"
# What lies below text for screen readers or in a closed menu takes no room.
OUTSIDE = """() => [...document.querySelectorAll(".main *")].flatMap((one) => {
  if (!one.checkVisibility() || one.closest(".vh, svg *")) return [];
  const { left, right } = one.getBoundingClientRect();
  const panel = one.closest(".panel")?.getBoundingClientRect().right ?? Infinity;
  const end = Math.min(document.documentElement.clientWidth, panel);
  if (left > -1 && right < end + 1) return [];
  return [`${one.tagName}.${one.className}: ${left} to ${right}, of ${end}`];
}).slice(0, 5)"""


@pytest.fixture(scope="module")
def busy(forge: Deployment) -> dict[str, int]:
    """A project whose runner is paused for a long reason, so that its tasks wait for one."""
    api = forge.api
    project = api.project(f"At every width {uuid4().hex[:6]}")
    tags = ["ansible", "data-centre-west", "terraform"]
    for name in ("build-amsterdam-1", "build-amsterdam-2"):
        runner = api.runner(project, name, tags=tags, concurrency=8).id
        api.post(f"runners/{runner}/pause", reason=REASON)
    template = api.template(
        project, "true", name="Rotate the certificates of all zones", tags=tags,
        description=REASON, allow_parallel=True,
    )  # fmt: skip
    waiting = [api.run(project, template) for _ in range(3)]
    api.post(f"tasks/{waiting[0]}/stop")
    return {"project": project, "task": waiting[-1]}


def at_width(visitor: Visitor, width: int, address: str) -> Any:
    visitor.page.set_viewport_size({"width": width, "height": 900})
    visitor.page.goto(address)
    return visitor.page


@pytest.mark.parametrize("width", WIDTHS)
def test_no_list_runs_out_of_its_panel(visit: Visit, busy: dict[str, int], width: int) -> None:
    visitor = visit("owner")
    outside = {}
    for address in LISTS:
        page = at_width(visitor, width, address.format(**busy))
        menu = page.locator(".filters .menu.narrow > summary")
        if menu.count():
            menu.click()
            expect(page.locator(".filters .pop")).to_be_visible()
        found = page.evaluate(OUTSIDE)
        if found or visitor.excess():
            outside[address] = (visitor.excess(), found)
    assert not outside, "pixels that are cut or have to be scrolled to"


def test_a_reason_takes_the_room_that_it_has_and_can_be_read_where_it_is_cut(
    visit: Visit, busy: dict[str, int]
) -> None:
    visitor = visit("owner")
    page = at_width(visitor, WIDE[0], f"/projects/{busy['project']}/tasks/")
    cell = page.locator("td.a-name", has=page.locator(f"#task-{busy['task']}"))
    reason = cell.locator(".two")
    rooms = reason.evaluate("(one) => [one.clientWidth, one.parentElement.clientWidth]")
    assert rooms[1] - rooms[0] <= 24  # the cell's own padding
    assert cell.get_attribute("title") == reason.text_content()


@pytest.mark.parametrize("width", [WIDTHS[-1], PHONE[0]])
def test_the_audit_log_says_from_which_address(
    visit: Visit, busy: dict[str, int], width: int
) -> None:
    page = at_width(visit("owner"), width, f"/projects/{busy['project']}/audit/")
    address = page.locator(".a-who").first.get_by_role("link", name="127.0.0.1")
    expect(address).to_be_visible()
    address.click()
    page.wait_for_url("**/audit/?address=127.0.0.1")


@pytest.mark.parametrize("width", [WIDTHS[-1], PHONE[0]])
def test_the_audit_log_of_all_projects_says_of_which(
    visit: Visit, busy: dict[str, int], width: int
) -> None:
    page = at_width(visit("owner"), width, "/audit/?kind=template&verb=created")
    place = f"/projects/{busy['project']}/audit/"
    link = page.locator("td.a-what").locator(f"a[href='{place}']").first
    expect(link).to_be_visible()
    page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
    expect(link).to_be_hidden()
    expect(page.locator("td.a-project").locator(f"a[href='{place}']").first).to_be_visible()


def test_a_phone_says_how_many_waits_it_shows(visit: Visit, busy: dict[str, int]) -> None:
    page = at_width(visit("owner"), PHONE[0], f"/projects/{busy['project']}/runners/")
    card = page.get_by_role("region", name="Queue wait by tag")
    expect(card.locator("header .r")).to_have_text(
        "the worst 3 of 4, last hour", use_inner_text=True
    )
    expect(card.locator("li:visible")).to_have_count(3)
    page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
    expect(card.locator("header .r")).to_have_text("last hour", use_inner_text=True)
    expect(card.locator("li:visible")).to_have_count(4)
