"""What refreshes itself leaves its reader in place: the focus, what is open, what is selected."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.conftest import Visit
from tests.browser.visitor import PHONE
from tests.deployment.deployment import Deployment

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect

# A mark on what is drawn now: what replaces it has none.
MARK = "(element) => { element.isOfBefore = true; }"
IS_MARKED = "(element) => element.isOfBefore === true"


def await_answers(page: Any, address: str, count: int) -> None:
    """The last of them may not be drawn yet; all before it are."""
    for _ in range(count):
        page.wait_for_event("response", lambda answer: address in answer.url)


def is_kept(page: Any, selector: str, address: str) -> bool:
    """Whether it is the same element after further answers; the first one may differ."""
    await_answers(page, address, 2)
    page.locator(selector).evaluate(MARK)
    await_answers(page, address, 3)
    return bool(page.locator(selector).evaluate(IS_MARKED))


def test_a_button_keeps_the_focus_when_its_list_is_drawn_anew(
    visit: Visit, forge: Deployment
) -> None:
    project = forge.api.project("Focus")
    quiet = forge.api.template(project, "echo quiet", name="Quiet")
    other = forge.api.template(project, "echo other", name="Other")
    page = visit("owner").page
    page.goto(f"/projects/{project}/templates/")
    run = page.get_by_role("button", name="Run Quiet")
    run.focus()
    run.evaluate(MARK)
    forge.api.run(project, other)
    expect(page.locator(f"#last-{other}")).to_contain_text("Queued")
    assert not run.evaluate(IS_MARKED)
    expect(run).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#task-head h1")).to_have_text("Quiet")
    assert page.locator("#task-head .crumb a").last.get_attribute("href").endswith(f"={quiet}")


def test_the_row_under_the_pointer_stays_there_when_those_above_it_grow(
    visit: Visit, forge: Deployment
) -> None:
    """So that a click opens what one meant."""
    project = forge.api.project("Under the pointer")
    waiting = forge.api.template(project, "true", name="Waiting", allow_parallel=True)
    tasks = [forge.api.run(project, waiting) for _ in range(20)]
    page = visit("owner", size=PHONE).page
    page.goto(f"/projects/{project}/tasks/")
    meant = page.locator(f"#task-{tasks[5]}")
    page.mouse.wheel(0, 600)
    meant.hover()
    before = meant.bounding_box()
    top = page.locator("tr", has=page.locator(f"#task-{tasks[-1]}"))
    height = top.bounding_box()["height"]
    forge.api.runner(project, "of-a-name-that-takes-another-line")
    expect(top).to_contain_text("has not connected yet")
    assert top.bounding_box()["height"] > height
    moved = meant.bounding_box()["y"] - before["y"]
    assert abs(moved) < 1
    x, y = before["x"] + 5, before["y"] + before["height"] / 2
    page.mouse.click(x, y)
    page.wait_for_url(f"**/tasks/{tasks[5]}/")


def test_how_long_ago_something_was_draws_no_list_anew(visit: Visit, forge: Deployment) -> None:
    project = forge.api.project("Seconds ago")
    template = forge.api.template(project, "echo counted", name="Counted")
    forge.api.run(project, template)
    page = visit("owner").page
    page.goto(f"/projects/{project}/templates/")
    assert is_kept(page, f"#last-{template}", "part=live")


def test_what_changed_stays_open_when_a_runner_s_page_is_drawn_anew(
    visit: Visit, forge: Deployment
) -> None:
    project = forge.api.project("Stays open")
    runner = forge.api.runner(project, "open-1")
    page = visit("owner").page
    page.goto(f"/runners/{runner.id}/")
    summary = page.locator(".trail summary").first
    summary.click()
    summary.evaluate(MARK)
    details = page.locator(".trail details").first
    expect(details).to_have_attribute("open", "")
    name = f"#{details.get_attribute('id')}"
    forge.api.post(f"runners/{runner.id}/pause", reason="Disk is swapped")
    expect(page.locator("#paused")).to_contain_text("Disk is swapped")
    assert not page.locator(f"{name} summary").evaluate(IS_MARKED)
    expect(page.locator(name)).to_have_attribute("open", "")
    expect(page.locator(f"{name} summary")).to_be_focused()

    # It has a button, which it sends by a form that stands elsewhere.
    assert is_kept(page, "#act-resume", "part=live")
    page.get_by_role("button", name="Resume now").click()
    expect(page.get_by_text("open-1 takes tasks again.")).to_be_visible()


def test_what_one_is_told_to_try_beside_a_new_token_can_be_copied(
    visit: Visit, forge: Deployment
) -> None:
    project = forge.api.project("Taken at leisure")
    visitor = visit("owner")
    page = visitor.page
    page.goto(f"/projects/{project}/runners/new/")
    page.get_by_label("Name", exact=True).fill("leisure-1")
    page.get_by_role("button", name="Add runner").click()
    command = page.locator("#contact code", has_text="healthz")
    await_answers(page, "/contact/", 2)
    command.evaluate("(element) => getSelection().selectAllChildren(element)")
    await_answers(page, "/contact/", 3)
    page.keyboard.press("Control+c")
    assert visitor.clipboard() == command.inner_text()


def test_a_task_s_page_keeps_the_focus_and_the_counts_of_the_navigation(
    visit: Visit, forge: Deployment, project: int
) -> None:
    task = forge.api.run_script(project, "sleep 600", name="Focused while it ends")
    forge.api.wait_until(task, "running")
    page = visit("owner").page
    page.goto(f"/tasks/{task}/")
    runner = page.locator("#its-runner")
    runner.focus()
    runner.evaluate(MARK)
    count = page.locator("#nav-running")
    expect(count).to_contain_text("under way")
    before = count.inner_text()
    forge.api.post(f"tasks/{task}/force-stop")
    expect(page.locator("#task-head .head .st")).to_contain_text("Stopped")
    expect(count).not_to_have_text(before)
    assert not runner.evaluate(IS_MARKED)
    expect(runner).to_be_focused()
