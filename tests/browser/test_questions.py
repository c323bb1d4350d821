"""Questions that open over a page: what becomes of them, and of what is typed into them, when
Forge is away, when the session ends, and when what is asked about is not what is on the screen."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.conftest import Visit
from tests.browser.people import Person
from tests.browser.test_drafts import NOTE, await_kept, end_session, sign_in_again
from tests.deployment.deployment import Deployment

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect

REASON = "Disk is exchanged, ticket OPS-4711"


@pytest.fixture
def runner(forge: Deployment, project: int, request: pytest.FixtureRequest) -> int:
    name = request.node.name.replace("_", "-")[:40].strip("-")
    return forge.api.runner(project, name).id


def pause(page: Any) -> Any:
    """Open the question; the dialog is what it opens in."""
    page.get_by_role("main").get_by_role("link", name="Pause", exact=True).click()
    return page.get_by_role("dialog", name="Pause")


def test_a_question_that_cannot_be_fetched_leaves_the_page_and_says_so(
    visit: Visit, runner: int
) -> None:
    page = visit("manager").page
    page.goto(f"/runners/{runner}/")
    here = page.url
    said = page.get_by_role("alert").filter(has_text="Forge does not answer. Try again.")
    page.route("**/pause/", lambda route: route.abort("connectionrefused"))
    pause(page)
    expect(said).to_be_visible()
    said.get_by_role("button", name="Dismiss").click()
    expect(said).to_have_count(0)
    page.unroute("**/pause/")
    page.route("**/pause/", lambda route: route.fulfill(status=503, body="away"))
    pause(page)
    expect(said).to_be_visible()
    assert page.url == here
    page.unroute("**/pause/")
    expect(pause(page)).to_be_visible()


def test_what_is_typed_into_a_question_outlives_the_session(
    visit: Visit, people: dict[str, Person], runner: int
) -> None:
    visitor = visit("manager")
    page = visitor.page
    page.goto(f"/runners/{runner}/")
    dialog = pause(page)
    dialog.get_by_label("Reason").fill(REASON)
    await_kept(page, REASON)
    end_session(visitor)
    expect(dialog.get_by_role("alert")).to_contain_text("You are signed out.")
    expect(dialog.get_by_label("Reason")).to_have_value(REASON)
    dialog.get_by_role("link", name="Leave it on").click()
    sign_in_again(page, people["manager"])
    page.wait_for_url(f"**/runners/{runner}/")
    dialog = pause(page)
    expect(dialog.locator(NOTE)).to_contain_text("Restored what you had typed")
    expect(dialog.get_by_label("Reason")).to_have_value(REASON)
    dialog.get_by_role("button", name="Pause runner").click()
    expect(page.get_by_role("status").filter(has_text="is paused.")).to_be_visible()
    await_kept(page, REASON, is_there=False)


def test_a_question_sent_after_the_session_ended_comes_back(
    visit: Visit, people: dict[str, Person], runner: int
) -> None:
    visitor = visit("manager")
    page = visitor.page
    page.goto(f"/runners/{runner}/")
    dialog = pause(page)
    dialog.get_by_label("Reason").fill(REASON)
    end_session(visitor)
    dialog.get_by_role("button", name="Pause runner").click()
    sign_in_again(page, people["manager"])
    page.wait_for_url("**/pause/")
    expect(page.get_by_label("Reason")).to_have_value(REASON)
    page.get_by_role("button", name="Discard it").click()
    expect(page.get_by_label("Reason")).to_have_value("")


def test_a_question_forgets_what_is_discarded_or_left(visit: Visit, runner: int) -> None:
    page = visit("manager").page
    page.goto(f"/runners/{runner}/")
    dialog = pause(page)
    dialog.get_by_label("Reason").fill(REASON)
    await_kept(page, REASON)
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    dialog = pause(page)
    expect(dialog.get_by_label("Reason")).to_have_value(REASON)
    dialog.get_by_role("button", name="Discard it").click()
    expect(dialog.get_by_label("Reason")).to_have_value("")
    expect(dialog.locator(NOTE)).to_have_count(0)
    dialog.get_by_label("Reason").fill(REASON)
    await_kept(page, REASON)
    dialog.get_by_role("link", name="Leave it on").click()
    await_kept(page, REASON, is_there=False)


def test_run_asks_while_changes_are_not_saved(
    visit: Visit, forge: Deployment, project: int
) -> None:
    template = forge.api.template(project, "echo as stored", name="Asks before it runs")
    page = visit("manager").page
    page.goto(f"/templates/{template}/")
    run = page.get_by_role("main").get_by_role("button", name="Run", exact=True)
    dialog = page.get_by_role("dialog", name="Run what is stored, without your changes?")
    page.locator("[name=script]").fill("echo changed")
    run.click()
    expect(dialog).to_contain_text("Asks before it runs")
    # The list of keys does not open over a question.
    dialog.get_by_role("link", name="Do not run it").press("?")
    expect(page.locator("dialog#keys")).to_be_hidden()
    dialog.get_by_role("link", name="Do not run it").click()
    expect(dialog).to_have_count(0)
    expect(page.locator("[name=script]")).to_have_value("echo changed")
    run.click()
    dialog.get_by_role("button", name="Run what is stored").click()
    page.wait_for_url("**/tasks/*/")
    task = int(page.url.rstrip("/").rpartition("/")[2])
    forge.api.await_output(task, b"as stored")
    page.goto(f"/templates/{template}/")
    expect(page.locator(NOTE)).to_contain_text("Restored what you had typed")
    run.click()
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Discard it").click()
    expect(page.locator("[name=script]")).to_have_value("echo as stored")
    for label, value in (("What then", "fail"), ("Allow several runs", None)):
        field = page.get_by_label(label)
        if value:
            field.select_option(value)
        else:
            field.uncheck()
        run.click()
        expect(dialog).to_be_visible()
        page.keyboard.press("Escape")
        expect(dialog).to_have_count(0)
        page.get_by_role("link", name="Cancel").click()
        page.wait_for_url("**/templates/")
        page.goto(f"/templates/{template}/")
    run.click()
    page.wait_for_url("**/tasks/*/")
