"""A log with the keyboard alone: one stop of Tab, and a line at a time with the arrows."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.browser.conftest import Visit
from tests.deployment.deployment import Deployment

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect

LINES = 400
FOCUS = """() => {
  const one = document.activeElement, style = getComputedStyle(one);
  return {
    row: one.closest(".rows > *")?.dataset.number,
    isLog: one.matches("[data-lines]"),
    isInLog: Boolean(one.closest("[data-lines]")),
    isAfter: Boolean(document.querySelector("[data-lines]").compareDocumentPosition(one)
      & Node.DOCUMENT_POSITION_FOLLOWING),
    isOutlined: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1,
  };
}"""


@pytest.fixture(scope="module")
def task(forge: Deployment, project: int) -> int:
    head = 'for n in $(seq 1 30); do echo "head $n"; done; echo "TASK [web : Inside] ****"'
    rest = f'for n in $(seq 32 {LINES}); do echo "line $n"; done'
    task = forge.api.run_script(project, f"{head}; {rest}", name="A log for keys")
    assert forge.api.wait_until(task)["state"] == "succeeded"
    return task


def opened(visit: Visit, task: int, fragment: str = "") -> Any:
    visitor = visit("viewer")
    visitor.page.goto(f"/tasks/{task}/{fragment}")
    visitor.await_status("Ended")
    visitor.page.locator(".ln").first.wait_for()
    return visitor.page


def focused(page: Any) -> dict[str, Any]:
    found: dict[str, Any] = page.evaluate(FOCUS)
    return found


def await_row(page: Any, number: int) -> None:
    """Wait until line `number`, from 1, has the focus, where it can be seen."""
    link = page.locator(f".ln[data-number='{number - 1}'] > a")
    expect(link).to_be_focused()
    expect(link).to_be_in_viewport()
    assert focused(page)["isOutlined"]


def test_tab_goes_past_a_log_of_any_length(visit: Visit, task: int) -> None:
    page = opened(visit, task)
    page.locator("[data-follow]").focus()
    page.keyboard.press("Tab")
    assert focused(page)["isLog"] and focused(page)["isOutlined"]
    page.keyboard.press("Tab")
    assert not focused(page)["isInLog"] and focused(page)["isAfter"]
    page.keyboard.press("Shift+Tab")
    assert focused(page)["isLog"]
    # From a line it is no farther, to either side.
    page.keyboard.press("ArrowDown")
    await_row(page, 1)
    page.keyboard.press("Tab")
    assert not focused(page)["isInLog"] and focused(page)["isAfter"]
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("ArrowDown")
    await_row(page, 1)
    page.keyboard.press("Shift+Tab")
    expect(page.locator("[data-follow]")).to_be_focused()


def test_arrows_lead_to_a_line_and_enter_links_it(visit: Visit, task: int) -> None:
    page = opened(visit, task)
    page.locator("[data-lines]").focus()
    for number in range(1, 61):
        page.keyboard.press("ArrowDown")
        await_row(page, number)
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("#L60$"))
    expect(page.locator(".ln.sel > span")).to_have_text("line 60")
    # The line was drawn anew, and the way goes on from it.
    await_row(page, 60)
    page.keyboard.press("ArrowUp")
    await_row(page, 59)
    # What is scrolled out of sight gives the focus back to the log.
    page.keyboard.press("End")
    expect(page.locator(".ln > span", has_text=f"line {LINES}")).to_be_in_viewport()
    expect(page.locator("[data-lines]")).to_be_focused()
    page.keyboard.press("ArrowUp")
    row = int(focused(page)["row"])
    assert row > LINES - 60
    expect(page.locator(f".ln[data-number='{row}'] > a")).to_be_in_viewport()
    page.keyboard.press("Home")
    expect(page.locator(".ln > span", has_text=re.compile("^head 1$"))).to_be_in_viewport()
    expect(page.locator("[data-lines]")).to_be_focused()
    page.keyboard.press("ArrowDown")
    await_row(page, 1)


def test_arrows_fold_and_unfold_what_begins_at_a_line(visit: Visit, task: int) -> None:
    page = opened(visit, task, "#L31")
    page.locator(".ln.sel .tog").wait_for()
    page.locator(".ln.sel > a").focus()
    page.keyboard.press("ArrowLeft")
    band = page.locator("button.fold")
    expect(band).to_be_focused()
    expect(page.locator(".ln > span", has_text="line 32")).to_have_count(0)
    page.keyboard.press("ArrowUp")
    await_row(page, 30)
    page.keyboard.press("ArrowDown")
    expect(band).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".ln > span", has_text="line 32")).to_be_visible()
    page.keyboard.press("ArrowDown")
    await_row(page, 32)
