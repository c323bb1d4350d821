"""The admin and the pages are one program to whoever looks at them."""

from __future__ import annotations

import pytest

from tests.browser.conftest import Visit

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
