"""What was typed into a form outlives the end of the session, and nobody else sees it."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from tests.browser.conftest import Visit
from tests.browser.people import Person
from tests.browser.visitor import PATIENCE_MILLISECONDS, PHONE, WIDE, Visitor

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect

SCRIPT = "#!/bin/bash\n\n  echo 'typed for an hour'\n"
SECRET = "canary-that-no-browser-keeps"
NOTE = ".restored"
KEPT = "Object.values(sessionStorage).join()"
SESSION = re.compile("session")


def end_session(visitor: Visitor) -> None:
    """As it ends by itself, or on another computer: the page does not hear of it."""
    visitor.page.context.clear_cookies(name=SESSION)


def await_kept(page: Any, text: str, *, is_there: bool = True) -> None:
    """Wait until the tab keeps that text, or does not any more."""
    deadline = time.monotonic() + PATIENCE_MILLISECONDS / 1000
    while (text in page.evaluate(KEPT)) != is_there:
        assert time.monotonic() < deadline, f"{text}: kept is not {is_there}"
        page.wait_for_timeout(50)


def sign_in_again(page: Any, person: Person) -> None:
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.get_by_label("User name").fill(person.name)
    page.get_by_label("Password").fill(person.password)
    page.get_by_role("button", name="Sign in").click()


def type_template(page: Any, project: int, name: str) -> None:
    page.goto(f"/projects/{project}/templates/new/")
    page.locator("[name=name]").fill(name)
    page.locator("[name=script]").fill(SCRIPT)
    page.get_by_label("Allow several runs").check()
    page.get_by_label("What then").select_option("fail")


def test_a_form_posted_after_the_session_ended_comes_back_and_is_saved(
    visit: Visit, people: dict[str, Person], project: int
) -> None:
    visitor = visit("owner")
    page = visitor.page
    type_template(page, project, "Typed long")
    end_session(visitor)
    page.get_by_role("button", name="Create template").click()
    sign_in_again(page, people["owner"])
    expect(page.locator(NOTE)).to_contain_text("Restored what you had typed")
    assert page.locator("[name=script]").input_value() == SCRIPT
    expect(page.locator("[name=name]")).to_have_value("Typed long")
    expect(page.get_by_label("Allow several runs")).to_be_checked()
    expect(page.get_by_label("What then")).to_have_value("fail")
    page.get_by_role("button", name="Create template").click()
    expect(page.get_by_role("link", name="Typed long").first).to_be_visible()
    page.goto(f"/projects/{project}/templates/new/")
    expect(page.locator("[name=name]")).to_have_value("")
    expect(page.locator(NOTE)).to_have_count(0)


def test_a_secret_is_kept_nowhere_and_the_page_says_so(
    visit: Visit, people: dict[str, Person], project: int
) -> None:
    visitor = visit("owner")
    page = visitor.page
    page.goto(f"/projects/{project}/variable-groups/new/")
    page.locator("[name=name]").fill("Staging")
    page.locator("[name=new_name_0]").fill("API_TOKEN")
    page.locator("[name=new_value_0]").fill(SECRET)
    end_session(visitor)
    page.get_by_role("button", name="Create variable group").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert "API_TOKEN" in page.evaluate(KEPT)
    assert SECRET not in page.evaluate(KEPT)
    sign_in_again(page, people["owner"])
    expect(page.locator(NOTE)).to_contain_text("Secrets are never kept: type them again")
    expect(page.locator("[name=new_name_0]")).to_have_value("API_TOKEN")
    expect(page.locator("[name=new_value_0]")).to_have_value("")


def test_another_person_in_the_same_tab_finds_nothing(
    visit: Visit, people: dict[str, Person], project: int
) -> None:
    visitor = visit("owner")
    page = visitor.page
    type_template(page, project, "Private thought")
    end_session(visitor)
    page.get_by_role("button", name="Create template").click()
    sign_in_again(page, people["manager"])
    expect(page.locator("[name=script]")).to_have_value("")
    expect(page.locator(NOTE)).to_have_count(0)
    await_kept(page, "Private thought", is_there=False)


def test_signing_out_forgets_it_in_every_tab(visit: Visit, project: int) -> None:
    page = visit("owner").page
    type_template(page, project, "Left behind")
    await_kept(page, "Left behind")
    other = page.context.new_page()
    other.goto("/")
    other.locator(".menu.up summary").click()
    other.get_by_role("button", name="Sign out").last.click()
    expect(other.get_by_role("heading", name="Sign in")).to_be_visible()
    await_kept(page, "Left behind", is_there=False)


def test_a_reload_keeps_it_and_discard_and_cancel_do_not(visit: Visit, project: int) -> None:
    page = visit("owner").page
    type_template(page, project, "Second thought")
    page.reload()
    expect(page.locator("[name=name]")).to_have_value("Second thought")
    page.get_by_role("button", name="Discard it").click()
    expect(page.locator(NOTE)).to_have_count(0)
    expect(page.locator("[name=name]")).to_have_value("")
    page.locator("[name=name]").fill("Third thought")
    await_kept(page, "Third thought")
    page.get_by_role("link", name="Cancel").click()
    expect(page.get_by_role("heading", name="Templates")).to_be_visible()
    assert "Third thought" not in page.evaluate(KEPT)


def test_only_what_was_saved_is_forgotten(visit: Visit, project: int) -> None:
    """Not what was sent in vain, although the next page was reached by being sent on."""
    page = visit("owner").page
    type_template(page, project, "Sent in vain")
    is_new = "**/templates/new/"
    page.route(is_new, lambda route: route.fulfill(status=502, body="The proxy has no answer"))
    page.get_by_role("button", name="Create template").click()
    expect(page.get_by_text("The proxy has no answer")).to_be_visible()
    page.unroute(is_new)
    page.goto(f"/projects/{project}")
    assert page.url.endswith(f"/projects/{project}/")
    page.goto(f"/projects/{project}/templates/new/")
    expect(page.locator(NOTE)).to_be_visible()
    expect(page.locator("[name=name]")).to_have_value("Sent in vain")
    page.get_by_role("button", name="Discard it").click()
    expect(page.locator(NOTE)).to_have_count(0)


@pytest.mark.parametrize(
    ("address", "name", "button"),
    [
        ("/", "Saved project", "Create project"),
        ("/tokens/", "saved-token", "Create token"),
        ("/projects/{project}/runners/new/", "saved-runner", "Add runner"),
        ("/projects/{project}/registration-tokens/new/", "saved-rack", "Create token"),
        ("/projects/{project}/variable-groups/new/", "Saved group", "Create variable group"),
    ],
)
def test_a_form_that_was_saved_opens_empty(
    address: str, name: str, button: str, visit: Visit, project: int
) -> None:
    page = visit("owner").page
    page.goto(address.format(project=project))
    field = page.locator("main form.form [name=name]")
    field.fill(name)
    await_kept(page, name)
    page.get_by_role("button", name=button).click()
    await_kept(page, name, is_there=False)
    page.goto(address.format(project=project))
    expect(field).to_have_value("")
    expect(page.locator(NOTE)).to_have_count(0)


@pytest.mark.parametrize("size", [WIDE, PHONE])
def test_the_note_stays_within_the_frame_of_its_form(size: tuple[int, int], visit: Visit) -> None:
    page = visit("manager", size=size).page
    page.goto("/")
    page.locator("main form.form [name=name]").fill("Framed")
    page.reload()
    expect(page.locator(NOTE)).to_be_visible()
    frame = page.locator("section.panel", has=page.locator("#new-project")).bounding_box()
    note = page.locator(NOTE).bounding_box()
    assert note["x"] - frame["x"] >= 8
    assert frame["x"] + frame["width"] - (note["x"] + note["width"]) >= 8


def test_what_comes_back_does_not_undo_what_others_saved_meanwhile(
    visit: Visit, project: int
) -> None:
    page = visit("owner").page
    type_template(page, project, "Shared")
    page.get_by_role("button", name="Create template").click()
    page.get_by_role("link", name="Shared").first.click()
    page.locator("[name=description]").wait_for()
    page.wait_for_load_state("load")
    page.locator("[name=description]").fill("mine")
    await_kept(page, "mine")
    other = visit("manager").page
    other.goto(page.url)
    other.locator("[name=description]").fill("theirs")
    other.get_by_role("button", name="Save").click()
    expect(other.get_by_role("heading", name="Templates")).to_be_visible()
    page.reload()
    expect(page.locator("[name=description]")).to_have_value("mine")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("heading", name="Not saved: manager changed it")).to_be_visible()
    expect(page.locator("[name=description]")).to_have_value("mine")
    page.get_by_role("button", name="Save mine over it").click()
    expect(page.get_by_role("heading", name="Templates")).to_be_visible()
    page.get_by_role("link", name="Shared").first.click()
    expect(page.locator("[name=description]")).to_have_value("mine")


def test_a_page_without_scripts_has_it_behind_the_back_button(
    browser: Any, visit: Visit, people: dict[str, Person], project: int
) -> None:
    url = visit("owner").url
    context = browser.new_context(base_url=url, java_script_enabled=False)
    page = context.new_page()
    page.goto(f"/sign-in/?next=/projects/{project}/variable-groups/new/")
    sign_in_again(page, people["owner"])
    page.locator("[name=name]").fill("Typed without scripts")
    context.clear_cookies(name=SESSION)
    page.get_by_role("button", name="Create variable group").click()
    sign_in_again(page, people["owner"])
    expect(page.get_by_role("heading", name="New variable group")).to_be_visible()
    while page.locator("[name=name]").input_value() != "Typed without scripts":
        assert page.go_back(), "it is nowhere in the history"
        page.locator("[name=name], [name=password]").first.wait_for()
    context.close()
