"""What may be done to a runner is one menu away, in its row of the list."""

from __future__ import annotations

import re

import pytest

from tests.browser.conftest import Visit
from tests.browser.visitor import box_of
from tests.deployment.deployment import Deployment

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect


def test_a_row_opens_its_menu_by_keyboard_and_keeps_it_while_the_list_is_live(
    visit: Visit, forge: Deployment
) -> None:
    project = forge.api.project("Menus")
    runner = forge.api.runner(project, "menu-1", tags=["menu"])
    page = visit("owner").page
    page.goto(f"/projects/{project}/runners/?tag=menu")
    more = page.locator(f"#more-of-{runner.id}")
    more.focus()
    page.keyboard.press("Enter")
    menu = page.locator(f"#more-{runner.id} .pop")
    expect(menu.get_by_role("link")).to_have_text(
        ["Pause", "Change tags and limit", "New token", "Remove"]
    )
    # The list changes under the open menu.
    forge.api.runner(project, "menu-2", tags=["menu"])
    expect(page.get_by_role("link", name="menu-2", exact=True)).to_be_visible()
    expect(page.locator("#count-all")).to_have_text("2")
    expect(menu).to_be_visible()
    expect(more).to_be_focused()
    page.keyboard.press("Tab")
    pause = menu.get_by_role("link", name="Pause")
    expect(pause).to_be_focused()
    forge.api.runner(project, "menu-4", tags=["menu"])
    expect(page.get_by_role("link", name="menu-4", exact=True)).to_be_visible()
    expect(pause).to_be_focused()
    page.keyboard.press("Enter")
    question = page.get_by_role("dialog")
    expect(question).to_contain_text("menu-1")
    # It changes under the question too.
    forge.api.runner(project, "menu-5", tags=["menu"])
    expect(page.locator("#count-all")).to_have_text("4")
    page.keyboard.press("Escape")
    expect(question).to_have_count(0)
    expect(pause).to_be_focused()
    page.keyboard.press("Enter")
    question.get_by_role("link", name="Leave it on").focus()
    page.keyboard.press("Enter")
    expect(question).to_have_count(0)
    expect(pause).to_be_focused()
    page.keyboard.press("Escape")
    expect(menu).to_be_hidden()
    expect(more).to_be_focused()
    more.click()
    menu.get_by_role("link", name="Change tags and limit").click()
    expect(page).to_have_url(re.compile(rf"/runners/{runner.id}/change/$"))


def test_the_menu_of_a_low_row_opens_upwards_and_stays_there(
    visit: Visit, forge: Deployment
) -> None:
    project = forge.api.project("Low rows")
    runners = [forge.api.runner(project, f"low-{n:02d}") for n in range(12)]
    page = visit("owner").page
    page.goto(f"/projects/{project}/runners/")
    lowest = page.locator(f"#more-of-{runners[-1].id}")
    lowest.scroll_into_view_if_needed()
    lowest.click()
    menu = page.locator(f"#more-{runners[-1].id} .pop")
    remove = menu.get_by_role("link", name="Remove")
    expect(remove).to_be_in_viewport(ratio=1)
    place = box_of(menu)
    # The list is drawn anew under it.
    forge.api.post(f"runners/{runners[0].id}/pause", reason="Disk is swapped")
    expect(page.locator("tbody").get_by_text("Disk is swapped")).to_have_count(1)
    expect(remove).to_be_in_viewport(ratio=1)
    assert box_of(menu)["height"] == place["height"]
    page.keyboard.press("Escape")
    # A high one opens downwards.
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    highest = page.locator("summary[id^=more-of-]").first
    highest.click()
    below = box_of(page.locator("details[id^=more-][open] .pop"))
    assert below["y"] > box_of(highest)["y"]


def test_who_may_change_nothing_sees_no_menu(visit: Visit, project: int) -> None:
    page = visit("viewer").page
    page.goto(f"/projects/{project}/runners/")
    expect(page.locator("a.name").first).to_be_visible()
    expect(page.locator("details[id^=more-]")).to_have_count(0)
