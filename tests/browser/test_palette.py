"""The palette: a keyboard alone finds and runs anything, and so does a thumb."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.conftest import Visit
from tests.browser.visitor import PHONE
from tests.deployment.deployment import Deployment

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect


@pytest.fixture(scope="module")
def template(forge: Deployment, project: int) -> int:
    return forge.api.template(project, "echo found by name; sleep 1", name="Unmistakable release")


def palette_of(page: Any) -> Any:
    return page.get_by_role("dialog", name="Find or run")


def test_a_keyboard_alone_finds_and_runs(visit: Visit, project: int, template: int) -> None:
    page = visit("operator").page
    page.goto(f"/projects/{project}/tasks/")
    search = page.get_by_role("searchbox")
    search.focus()
    page.keyboard.press("Control+k")
    palette = palette_of(page)
    field = palette.get_by_role("combobox")
    expect(field).to_be_focused()
    page.keyboard.press("Escape")
    expect(palette).to_be_hidden()
    expect(search).to_be_focused()
    page.keyboard.press("Control+k")
    page.keyboard.type("unmist rel")
    first = palette.get_by_role("option").first
    expect(first).to_contain_text("Run Unmistakable release")
    expect(first).to_have_attribute("aria-selected", "true")
    assert field.get_attribute("aria-activedescendant") == first.get_attribute("id")
    page.keyboard.press("ArrowDown")
    second = palette.get_by_role("option").nth(1)
    expect(second).to_have_attribute("aria-selected", "true")
    expect(first).to_have_attribute("aria-selected", "false")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    page.wait_for_url("**/tasks/*/")
    expect(page.get_by_role("heading", name="Unmistakable release")).to_be_visible()
    number = page.url.rstrip("/").rpartition("/")[2]
    page.keyboard.press("Control+k")
    page.keyboard.type("runners")
    expect(palette.get_by_role("option").first).to_contain_text("Runners")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/projects/{project}/runners/")
    page.keyboard.press("Control+k")
    page.keyboard.type(f"#{number}")
    expect(palette.get_by_role("option").first).to_contain_text(f"#{number}")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/tasks/{number}/")


def test_enter_alone_runs_nothing(visit: Visit, project: int, template: int) -> None:
    page = visit("operator").page
    page.goto(f"/projects/{project}/")
    page.keyboard.press("Control+k")
    palette = palette_of(page)
    expect(palette.get_by_role("option").first).to_be_visible()
    page.keyboard.press("Enter")
    page.keyboard.type("nothing is called so")
    expect(palette).to_contain_text("Nothing that you may see is called so")
    page.keyboard.press("Enter")
    expect(palette).to_be_visible()
    assert page.url.endswith(f"/projects/{project}/")


def test_a_fragment_of_a_word_chooses_no_run(visit: Visit, project: int, template: int) -> None:
    page = visit("operator").page
    page.goto(f"/projects/{project}/")
    page.keyboard.press("Control+k")
    page.keyboard.type("istakable rel")
    palette = palette_of(page)
    first = palette.get_by_role("option").first
    expect(first).to_have_attribute("aria-selected", "true")
    expect(first).to_contain_text("template,")
    expect(palette.get_by_role("option").last).to_contain_text("Run Unmistakable release")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/templates/{template}/")


class Gate:
    """Before the palette's answers: closed until the test opens it."""

    def __init__(self, page: Any) -> None:
        self._held: list[Any] | None = []
        page.route("**/find/**", self._take)

    def _take(self, route: Any) -> None:
        if self._held is None:
            route.continue_()
        else:
            self._held.append(route)

    def open(self) -> None:
        held, self._held = self._held or [], None
        for route in held:
            route.continue_()

    def close(self) -> None:
        self._held = []


def test_enter_that_comes_before_the_list_opens_a_place(
    visit: Visit, project: int, template: int
) -> None:
    page = visit("operator").page
    page.goto(f"/projects/{project}/")
    gate = Gate(page)
    page.keyboard.press("Control+k")
    page.keyboard.type("istak")
    page.keyboard.press("Enter")
    gate.open()
    page.wait_for_url(f"**/templates/{template}/")


def test_enter_that_comes_before_the_list_chooses_a_run_and_does_not_run_it(
    visit: Visit, forge: Deployment, project: int, template: int
) -> None:
    page = visit("operator").page
    page.goto(f"/projects/{project}/")
    gate = Gate(page)
    page.keyboard.press("Control+k")
    palette = palette_of(page)
    before = forge.api.get(f"projects/{project}/tasks/")["count"]
    page.keyboard.type("unmis")
    page.keyboard.press("Enter")
    gate.open()
    run = palette.get_by_role("option").filter(has_text="Run Unmistakable release")
    expect(run).to_have_attribute("aria-selected", "true")
    # What was typed on is something else than what Enter was pressed for.
    gate.close()
    for key in ("Backspace", "Enter", "s"):
        page.keyboard.press(key)
    gate.open()
    expect(run).to_have_attribute("aria-selected", "true")
    assert forge.api.get(f"projects/{project}/tasks/")["count"] == before
    page.keyboard.press("Enter")
    page.wait_for_url("**/tasks/*/")


def test_a_template_of_another_project_is_asked_about(
    visit: Visit, forge: Deployment, project: int
) -> None:
    other = forge.api.project("Licences")
    template = forge.api.template(other, "echo renewed", name="Renewal of everything")
    page = visit("owner").page
    page.goto(f"/projects/{project}/")
    page.keyboard.press("Control+k")
    page.keyboard.type("renewal")
    palette = palette_of(page)
    run = palette.get_by_role("option").filter(has_text="Run Renewal of everything")
    expect(run).to_have_attribute("aria-selected", "false")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/templates/{template}/")
    page.goto(f"/projects/{project}/")
    page.keyboard.press("Control+k")
    page.keyboard.type("renewal")
    # Of what was typed, and not of the list that stood there before.
    expect(palette.get_by_role("option").first).to_have_attribute("aria-selected", "true")
    page.keyboard.press("ArrowUp")
    expect(run).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Enter")
    question = page.get_by_role("dialog", name="Run Renewal of everything in Licences?")
    expect(question).to_be_visible()
    expect(palette).to_be_hidden()
    assert forge.api.get(f"projects/{other}/tasks/")["results"] == []
    question.get_by_role("button", name="Run it").click()
    page.wait_for_url("**/tasks/*/")
    expect(page.get_by_role("heading", name="Renewal of everything")).to_be_visible()
    forge.api.post(f"projects/{other}/stop-all")


def test_a_thumb_finds_and_opens(visit: Visit, project: int, template: int) -> None:
    visitor = visit("viewer", size=PHONE)
    page = visitor.page
    page.goto(f"/projects/{project}/")
    page.locator(".topbar").get_by_label("Find or run").click()
    palette = palette_of(page)
    page.keyboard.type("unmist")
    option = palette.get_by_role("option").filter(has_text="template,")
    expect(option).to_have_count(1)
    assert not visitor.excess()
    option.click()
    page.wait_for_url(f"**/templates/{template}/")


def test_a_session_that_has_ended_leads_to_the_sign_in(visit: Visit, project: int) -> None:
    page = visit("viewer").page
    page.goto(f"/projects/{project}/members/")
    page.context.clear_cookies()
    page.keyboard.press("Control+k")
    page.wait_for_url("**/sign-in/**")
