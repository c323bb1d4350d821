"""A token is shown by what answers a form: who leaves it finds what was made, not the form."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pytest

from tests.browser.conftest import Visit
from tests.browser.people import Person
from tests.deployment.deployment import Deployment

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect


@dataclass(frozen=True)
class Shown:
    """The form at `address` makes one, and `found` is the address of what it made."""

    address: str
    button: str
    found: str
    name: str = ""


SHOWN = {
    "runner": Shown("/projects/{project}/runners/new/", "Add runner", r"/runners/\d+/", "left-1"),
    "registration token": Shown(
        "/projects/{project}/registration-tokens/new/",
        "Create token",
        r"/projects/\d+/registration-tokens/",
        "Left rack",
    ),
    "API token": Shown("/tokens/", "Create token", "/tokens/", "left laptop"),
    "rotated token": Shown("/runners/{runner}/rotate/", "Make a new token", r"/runners/\d+/"),
}


@pytest.mark.parametrize("shown", SHOWN.values(), ids=SHOWN.keys())
def test_going_back_to_a_shown_token_leads_to_what_has_it(
    shown: Shown, visit: Visit, forge: Deployment
) -> None:
    """Chrome would offer nothing but to send the form again, or an error."""
    project = forge.api.project(f"Left with {shown.name or 'a rotated token'}")
    runner = forge.api.runner(project, "has-a-token").id
    page = visit("owner").page
    page.goto(shown.address.format(project=project, runner=runner))
    token = _made(page, shown)
    page.goto(f"/projects/{project}/templates/")
    answer = page.go_back()
    assert answer.ok and answer.request.method == "GET"
    expect(page).to_have_url(re.compile(f"{shown.found}$"))
    assert token not in page.content()
    assert page.reload().request.method == "GET"


@pytest.mark.parametrize("shown", SHOWN.values(), ids=SHOWN.keys())
def test_a_page_with_a_token_can_be_loaded_anew(
    shown: Shown, visit: Visit, forge: Deployment
) -> None:
    project = forge.api.project(f"Loaded anew with {shown.name or 'a rotated token'}")
    runner = forge.api.runner(project, "has-a-token").id
    page = visit("owner").page
    page.goto(shown.address.format(project=project, runner=runner))
    token = _made(page, shown)
    assert page.reload().request.method == "GET"
    expect(page).to_have_url(re.compile(f"{shown.found}$"))
    assert token not in page.content()


def test_without_a_script_a_page_that_is_loaded_anew_makes_nothing(
    browser: Any, forge: Deployment, people: dict[str, Person]
) -> None:
    project = forge.api.project("Loaded without a script")
    context = browser.new_context(base_url=forge.place["url"], java_script_enabled=False)
    page = context.new_page()
    page.goto(f"/sign-in/?next=/projects/{project}/runners/new/")
    page.get_by_label("User name").fill(people["owner"].name)
    page.get_by_label("Password").fill(people["owner"].password)
    page.get_by_role("button", name="Sign in").click()
    _made(page, SHOWN["runner"])
    page.reload()
    expect(page.get_by_role("heading", name="Runner left-1 was made already")).to_be_visible()
    expect(page.locator("#token")).to_have_count(0)
    page.get_by_role("link", name="Open runner").click()
    expect(page.get_by_role("heading", name="left-1")).to_be_visible()
    context.close()


def _made(page: Any, shown: Shown) -> str:
    """Fill in the form that is shown and send it; the token on the page that follows."""
    if shown.name:
        page.locator("main").get_by_label("Name", exact=True).fill(shown.name)
    page.get_by_role("button", name=shown.button).click()
    token = str(page.locator("#token").inner_text())
    page.wait_for_load_state("load")  # with its scripts, of which one gives it another address
    return token
