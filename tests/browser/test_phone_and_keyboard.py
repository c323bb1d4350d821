"""Every page of a project at a phone's width, and the way through it with a keyboard alone."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.browser.conftest import Visit
from tests.browser.visitor import PHONE, box_of
from tests.deployment.deployment import Deployment

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect

LONG = "a-name-without-a-single-blank-in-it-that-somebody-had-a-reason-for"
PAGES = (
    "/", "/tokens/", "/projects/{project}/", "/projects/{project}/tasks/",
    "/projects/{project}/tasks/?state=failed&q={long}",
    "/projects/{project}/tasks/?state=active&by=1&since=7d&template={template}",
    "/projects/{project}/templates/",
    "/projects/{project}/templates/new/", "/templates/{template}/", "/tasks/{task}/",
    "/projects/{project}/runners/", "/projects/{project}/runners/new/", "/runners/{runner}/",
    "/runners/{runner}/remove/", "/runners/{runner}/rotate/",
    "/projects/{project}/registration-tokens/", "/projects/{project}/registration-tokens/new/",
    "/projects/{project}/access-keys/", "/projects/{project}/access-keys/new/",
    "/projects/{project}/variable-groups/", "/projects/{project}/variable-groups/new/",
    "/find/?q={long}", "/runners/", "/runners/?q={long}", "/projects/{project}/queue/",
    "/projects/{project}/stop-all/", "/projects/{project}/templates/new/?from={template}",
    "/templates/{template}/history/", "/templates/{template}/disable/",
    "/projects/{project}/audit/", "/projects/{project}/audit/?since=2026-01-01", "/audit/",
)  # fmt: skip


@pytest.fixture(scope="module")
def numbers(forge: Deployment, project: int) -> dict[str, Any]:
    """Things whose names and outputs are as long as they may be."""
    script = f"printf '%s' {'x' * 400}; echo; echo {LONG}"
    template = forge.api.template(project, script, name=LONG, description=f"{LONG} " * 2)
    task = forge.api.run(project, template)
    forge.api.wait_until(task)
    runner = forge.place["runner_id"]
    return {
        "project": project,
        "template": template,
        "task": task,
        "runner": runner,
        "long": LONG,
    }


def test_no_page_is_wider_than_a_phone(visit: Visit, numbers: dict[str, Any]) -> None:
    visitor = visit("owner", size=PHONE)
    wide = {}
    for address in PAGES:
        visitor.page.goto(address.format(**numbers))
        if excess := visitor.excess():
            wide[address] = (excess, visitor.too_wide())
    assert not wide, "pixels that have to be scrolled to"


def test_a_phone_shows_a_groups_variables_as_they_are_and_has_room_for_long_names(
    visit: Visit, numbers: dict[str, Any], forge: Deployment
) -> None:
    several = "web-1 port=22\nweb-2\n  indented"
    name = "N" * 100
    group = forge.api.variable_group(
        numbers["project"],
        "Long names",
        variables={"HOSTS": several},
        secrets={name: "correct-horse-7"},
    )
    script, fields = "true", {"environment": {"HOSTS": several}}
    task = forge.api.run(
        numbers["project"], forge.api.template(numbers["project"], script, **fields)
    )
    page = visit("operator", size=PHONE).page
    for address in (f"/variable-groups/{group}/", f"/tasks/{task}/"):
        page.goto(address)
        value = page.locator("dd", has_text="web-1 port=22")
        expect(value).to_be_visible()
        assert value.inner_text() == several
    owner = visit("owner", size=PHONE)
    owner.page.goto(f"/variable-groups/{group}/")
    assert not owner.excess(), owner.too_wide()
    field, drop = (box_of(owner.page.locator(f".secrets {one}")) for one in ("textarea", ".drop"))
    assert field["x"] + field["width"] <= drop["x"] or field["y"] + field["height"] <= drop["y"]


@pytest.mark.parametrize("name", ["Infrastrukturautomatisierung Nord", "n" * 80])
def test_a_projects_long_name_leaves_its_mark_and_the_page_below_alone(
    name: str, visit: Visit, forge: Deployment
) -> None:
    page = visit("owner", size=PHONE).page
    page.goto(f"/projects/{forge.api.project(name)}/")
    bar = box_of(page.locator(".topbar"))
    mark, words = box_of(page.locator(".topbar .brand svg")), box_of(page.locator(".topbar .brand"))
    assert mark["width"] >= 20
    assert words["y"] >= bar["y"] and words["y"] + words["height"] <= bar["y"] + bar["height"]


def test_going_backwards_with_the_keyboard_leads_under_no_bar(
    visit: Visit, numbers: dict[str, Any]
) -> None:
    page = visit("owner", size=PHONE).page
    page.goto("/projects/{project}/templates/new/".format(**numbers))
    page.get_by_role("button", name="Create template").focus()
    top = "document.activeElement.getBoundingClientRect().top"
    for _ in range(12):
        page.keyboard.press("Shift+Tab")
        bar = box_of(page.locator(".topbar"))
        assert page.evaluate(top) >= bar["y"] + bar["height"]


def test_a_phone_leads_everywhere(visit: Visit, numbers: dict[str, Any]) -> None:
    """The sections below, everything else in the menu above."""
    page = visit("operator", size=PHONE).page
    page.goto(f"/projects/{numbers['project']}/")
    sections = page.get_by_role("navigation", name="Sections")
    for word in ("Tasks", "Run", "Runners", "Overview"):
        sections.get_by_role("link", name=word, exact=True).click()
        expect(page.locator(".tabbar a[aria-current]")).to_have_text(word)
    page.get_by_label("Menu").click()
    page.locator(".topbar").get_by_role("link", name="Access keys").click()
    expect(page.get_by_role("heading", name="Access keys", exact=True)).to_be_visible()


def test_a_phones_menus_open_on_the_screen_with_room_for_a_finger(
    visit: Visit, numbers: dict[str, Any]
) -> None:
    page = visit("owner", size=PHONE).page
    places = (
        "/projects/{project}/", "/projects/{project}/runners/", "/runners/{runner}/",
        "/templates/{template}/",
    )  # fmt: skip
    found = set()
    for address in places:
        page.goto(address.format(**numbers))
        for menu in page.locator(".topbar .menu, main .menu:not(.narrow)").all():
            menu.locator("> summary").click()
            for item in menu.locator(".pop :is(a, button)").all():
                item.scroll_into_view_if_needed()
                box, name = box_of(item), item.inner_text().strip()
                right, bottom = box["x"] + box["width"], box["y"] + box["height"]
                assert box["x"] >= 0 and right <= PHONE[0] and bottom <= PHONE[1], name
                assert box["height"] >= 40, name
                found.add(name)
            page.keyboard.press("Escape")
    assert {"Sign out", "Drain", "New token", "Duplicate", "Disable", "Remove"} <= found


def test_no_browser_on_a_phone_enlarges_the_page_around_a_field(
    visit: Visit, numbers: dict[str, Any]
) -> None:
    """As they do around one whose letters are smaller than 16 px."""
    page = visit("owner", size=PHONE).page
    small = """[...document.querySelectorAll("input, select, textarea")]
      .filter((one) => one.checkVisibility() && !["hidden", "checkbox"].includes(one.type))
      .filter((one) => parseFloat(getComputedStyle(one).fontSize) < 16)
      .map((one) => one.name)"""
    for address in ("tasks/", "runners/", "audit/", "members/"):
        page.goto(f"/projects/{numbers['project']}/{address}")
        assert page.evaluate(small) == [], address
    page.goto(f"/tasks/{numbers['task']}/")
    assert page.evaluate(small) == []


def walk(page: Any, wanted: str, key: str = "Tab") -> None:
    """Press the key until the focus is on something called `wanted`; every stop can be seen."""
    script = """() => {
      const one = document.activeElement, box = one.getBoundingClientRect();
      const style = getComputedStyle(one), around = getComputedStyle(one.parentElement);
      const isOutlined = (s) => s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 1;
      return {
        name: (one.getAttribute("aria-label") || one.labels?.[0]?.textContent || one.textContent)
          .trim().replace(/\\s+/g, " "),
        isVisible: box.width > 1 && box.height > 1 && box.bottom > 0 && box.top < innerHeight,
        isOutlined: isOutlined(style) || isOutlined(around),
      };
    }"""
    stops = []
    for _ in range(60):
        page.keyboard.press(key)
        stop = page.evaluate(script)
        stops.append(stop["name"])
        assert stop["isVisible"] and stop["isOutlined"], f"nobody sees the focus on {stop}"
        if stop["name"] == wanted:
            return
    raise AssertionError(f"{wanted} is not among {stops}")


def test_a_keyboard_is_enough(visit: Visit, forge: Deployment, numbers: dict[str, Any]) -> None:
    """Sign in, make a template, run it, stop it, without a pointer."""
    project = numbers["project"]
    page = visit("manager").page
    page.goto("/")
    walk(page, "Skip to content")
    page.keyboard.press("Enter")
    page.goto(f"/projects/{project}/templates/new/")
    walk(page, "Name")
    page.keyboard.type("By keyboard")
    walk(page, "Script")
    page.keyboard.type("echo typed; sleep 600")
    walk(page, "Create template")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/projects/{project}/templates/")
    walk(page, "Run By keyboard")
    page.keyboard.press("Enter")
    page.wait_for_url("**/tasks/*/")
    expect(page.locator("#task-head .head .st")).to_contain_text("Running")
    walk(page, "Stop")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("by the template's steps")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator("#act-stop")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    walk(page, "Stop task")
    page.keyboard.press("Enter")
    expect(page.locator("#task-head .head .st")).to_contain_text("Stopped")


def test_the_keys_are_listed_and_do_what_the_list_says(
    visit: Visit, forge: Deployment, numbers: dict[str, Any]
) -> None:
    page = visit("viewer").page
    page.goto(f"/projects/{numbers['project']}/")
    shortcuts = page.locator("dialog", has_text="Keyboard shortcuts")
    expect(shortcuts).to_be_hidden()
    page.keyboard.press("?")
    expect(shortcuts).to_be_visible()
    page.keyboard.press("Escape")
    expect(shortcuts).to_be_hidden()
    page.keyboard.type("gt")
    page.wait_for_url(re.compile(r"/tasks/$"))
    rows = page.locator("td a.name")
    page.keyboard.press("j")
    expect(rows.first).to_be_focused()
    page.keyboard.press("j")
    expect(rows.nth(1)).to_be_focused()
    page.keyboard.press("k")
    expect(rows.first).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url("**/tasks/*/")
    # A letter in a field is a letter.
    page.keyboard.press("/")
    page.keyboard.type("?gt")
    expect(page.get_by_role("searchbox")).to_have_value("?gt")
    expect(shortcuts).to_be_hidden()


def test_a_menu_closes_with_escape_and_gives_the_focus_back(visit: Visit, project: int) -> None:
    page = visit("viewer").page
    page.goto(f"/projects/{project}/")
    summary = page.locator(".side summary.me")
    summary.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Sign out")).to_be_hidden()
    expect(summary).to_be_focused()


def height_of(locator: Any) -> float:
    return box_of(locator)["height"]


def test_a_long_name_leaves_the_rest_of_a_line_legible(
    visit: Visit, numbers: dict[str, Any]
) -> None:
    """No word is broken into a column of letters: everything stands on one line."""
    page = visit("owner", size=PHONE).page
    page.goto(f"/tasks/{numbers['task']}/")
    crumb = page.get_by_role("navigation", name="Breadcrumb")
    assert height_of(crumb) < 32
    for part in (crumb.locator("> :first-child"), crumb.locator("> :last-child")):
        assert part.evaluate("(one) => one.scrollWidth <= one.clientWidth")
    page.goto(f"/find/?q={numbers['long'][:20]}")
    for about in page.locator(".hit .r").all():
        assert height_of(about) < 24


def test_on_a_phone_the_first_contact_is_seen_at_once(visit: Visit, project: int) -> None:
    page = visit("owner", size=PHONE).page
    page.goto(f"/projects/{project}/runners/new/")
    page.get_by_label("Name", exact=True).fill("by-phone")
    page.get_by_role("button", name="Add runner").click()
    expect(page.locator("#contact h2")).to_be_in_viewport()
    expect(page.locator("#token")).to_be_in_viewport()
    assert box_of(page.locator("#contact"))["y"] < box_of(page.locator("#token"))["y"]


def test_on_a_phone_an_ended_log_is_as_high_as_its_lines_need(
    visit: Visit, forge: Deployment, project: int
) -> None:
    """What comes below a log of two lines is on the screen; a long one fills as much as before."""
    phone = visit("owner", size=PHONE)
    heights = []
    for count in (2, 400):
        script = f"for n in $(seq {count}); do echo line $n; done"
        task = forge.api.wait_until(forge.api.run_script(project, script))["id"]
        phone.page.goto(f"/tasks/{task}/")
        phone.await_line("line 2")
        heights.append(height_of(phone.page.locator("[data-lines]")))
    assert heights[0] < 100 < PHONE[1] / 2 < heights[1]


def test_a_phones_list_of_tasks_says_who_when_where_and_how_long_one_waits(
    visit: Visit, forge: Deployment, project: int
) -> None:
    """One line for it, which is cut where it is too long."""
    ended = forge.api.run_script(project, "true", name="Ends on a phone")
    forge.api.wait_until(ended)
    runner = forge.api.get(f"runners/{forge.place['runner_id']}/")["name"]
    waits = forge.api.run_script(project, "true", name="Waits on a phone", tags=["no-such-host"])
    page = visit("owner", size=PHONE).page
    page.goto(f"/projects/{project}/tasks/")
    row = page.get_by_role("row").filter(has=page.locator(f"#task-{ended}"))
    expect(row.locator(".a-name")).to_contain_text(f"#{ended}", use_inner_text=True)
    said = re.compile(rf"^admin · (\d\d:\d\d|\d+ s ago) · {re.escape(runner)}$")
    expect(row.locator(".a-who")).to_have_text(said, use_inner_text=True)
    assert height_of(row.locator(".a-who")) < 24
    row = page.get_by_role("row").filter(has=page.locator(f"#task-{waits}"))
    expect(row.locator(".a-dur")).to_have_text(
        re.compile(r"^waits \d+ (s|min \d\d s)$"), use_inner_text=True
    )
    forge.api.post(f"tasks/{waits}/stop")
