"""A log that no page could hold: 100,000 lines here, 1,000,000 in the long form."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest

from tests.browser.conftest import Visit
from tests.browser.visitor import PHONE
from tests.deployment.client import wait_for
from tests.deployment.deployment import Deployment

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect

LINES = 1_000_000 if os.environ.get("FORGE_LONG") else 100_000
NEEDLE = 7_777  # stands on every line whose number is a multiple of it
SCRIPT = f"""
for n in range(1, {LINES} + 1):
    print(f"{{n:07d}} host-{{n % 97}} checked" + (" Needle" if n % {NEEDLE} == 0 else ""))
"""
# Drawings and the longest time between two, from the page's first script to its end.
WATCH = """
window.frames = { count: 0, longest: 0, last: performance.now(), mostRows: 0 };
requestAnimationFrame(function look(now) {
  const frames = window.frames;
  frames.count += 1;
  frames.longest = Math.max(frames.longest, now - frames.last);
  frames.last = now;
  frames.mostRows = Math.max(frames.mostRows, document.querySelectorAll(".ln").length);
  requestAnimationFrame(look);
});
"""


@pytest.fixture(scope="module")
def task(forge: Deployment, project: int) -> int:
    task = forge.api.run_script(project, SCRIPT, app="python", name="A long log")
    assert forge.api.wait_until(task)["state"] == "succeeded"
    return task


def await_all(page: Any) -> None:
    page.locator("[data-status-word]", has_text="Ended").wait_for(timeout=300_000)
    expect(page.locator("[data-line-count]")).to_have_text(f"{LINES:,} lines")


def selected(page: Any) -> str:
    return str(page.locator(".ln.sel > span").inner_text())


class Meter:
    """What a page has received, in bytes, and what its scripts hold on to."""

    def __init__(self, page: Any) -> None:
        self._session = page.context.new_cdp_session(page)
        self.received = 0
        self._session.on("Network.dataReceived", self._note)
        self._session.send("Network.enable")

    def _note(self, event: dict[str, Any]) -> None:
        self.received += event["dataLength"]

    def heap(self) -> int:
        self._session.send("HeapProfiler.collectGarbage")
        self._session.send("Performance.enable")
        metrics = self._session.send("Performance.getMetrics")["metrics"]
        return int(next(one["value"] for one in metrics if one["name"] == "JSHeapUsedSize"))


def test_only_what_is_in_view_is_in_the_document(
    visit: Visit, task: int, capsys: pytest.CaptureFixture[str]
) -> None:
    page = visit("viewer", is_traced=False).page
    page.add_init_script(WATCH)
    meter = Meter(page)
    page.goto(f"/tasks/{task}/")
    page.locator(".ln").first.wait_for()
    # The page answers while the log pours in.
    page.get_by_text("Script", exact=True).click()
    expect(page.get_by_label("Script")).to_be_visible()
    await_all(page)
    frames = page.evaluate("window.frames")
    with capsys.disabled():
        print(
            f"\n  {LINES:,} lines: {frames['count']} drawings while they came, the longest wait "
            f"for one {frames['longest']:.0f} ms, at most {frames['mostRows']} rows at once"
        )
    assert 0 < frames["mostRows"] < 150

    lines = page.locator("[data-lines]")
    lines.focus()
    page.keyboard.press("End")
    expect(page.locator(LAST)).to_have_text(re.compile(f"^{LINES:07d} "))
    page.keyboard.press("Home")
    expect(page.locator(".ln > span").first).to_have_text(re.compile("^0000001 "))
    page.get_by_role("button", name="To the end").click()
    expect(page.locator(LAST)).to_have_text(re.compile(f"^{LINES:07d} "))
    assert page.evaluate("document.querySelectorAll('*').length") < 1500
    # However long the log: its end, and what was looked at.
    with capsys.disabled():
        print(f"  received {meter.received:,} bytes, scripts hold {meter.heap():,}")
    assert meter.received < 2_000_000
    assert meter.heap() < 30_000_000


def test_all_of_it_can_be_reached_by_scrolling(visit: Visit, task: int) -> None:
    page = visit("viewer", is_traced=False).page
    page.goto(f"/tasks/{task}/")
    await_all(page)
    for share in (0.2, 0.8, 0.5, 0.999, 0.01):
        page.evaluate(
            "(share) => { const lines = document.querySelector('[data-lines]');"
            " lines.scrollTop = lines.scrollHeight * share; }",
            share,
        )
        near = f"Math.abs(rows[0].dataset.number - {share * LINES}) < {0.02 * LINES + 50}"
        page.wait_for_function(
            "() => { const rows = document.querySelectorAll('.ln');"
            f" return {near} && !document.querySelector('.ln .wait'); }}"
        )
        rows = page.evaluate(
            "[...document.querySelectorAll('.ln')].map((row) =>"
            " [Number(row.dataset.number) + 1, row.querySelector('span').textContent])"
        )
        assert len(rows) > 20
        assert all(text.startswith(f"{number:07d} host-{number % 97} ") for number, text in rows)


def test_a_log_that_pours_in_is_followed_without_being_kept(
    visit: Visit, forge: Deployment, project: int, capsys: pytest.CaptureFixture[str]
) -> None:
    page = visit("viewer", is_traced=False).page
    meter = Meter(page)
    waiting = f"import time; time.sleep(10)\n{SCRIPT}"
    watched = forge.api.run_script(project, waiting, app="python", name="Poured")
    page.goto(f"/tasks/{watched}/")
    await_all(page)
    expect(page.locator(LAST)).to_have_text(re.compile(f"^{LINES:07d} "))
    with capsys.disabled():
        print(f"\n  watched: received {meter.received:,} bytes, scripts hold {meter.heap():,}")
    assert meter.heap() < 30_000_000
    # What went by is still there.
    page.locator("[data-lines]").focus()
    page.keyboard.press("Home")
    expect(page.locator(".ln > span").first).to_have_text(re.compile("^0000001 "))
    page.goto(f"/tasks/{watched}/#L{LINES // 2}")
    page.reload()
    expect(page.locator(".ln.sel > span")).to_have_text(re.compile(f"^{LINES // 2:07d} "))


LAST = ".ln:last-child > span"


def test_a_link_leads_to_a_line(visit: Visit, task: int) -> None:
    wanted = LINES - 4321
    page = visit("viewer", is_traced=False).page
    page.goto(f"/tasks/{task}/#L{wanted}")
    page.locator(".ln.sel").wait_for(timeout=300_000)
    expect(page.locator(".ln.sel")).to_be_in_viewport()
    assert selected(page).startswith(f"{wanted:07d} ")
    await_all(page)
    # Another line's number is a link as well.
    page.locator(".ln:not(.sel) > a").nth(20).click()
    number = int(page.url.rpartition("#L")[2])
    assert number != wanted
    # The browser tells the page in a moment of its own.
    expect(page.locator(".ln.sel > span")).to_have_text(re.compile(f"^{number:07d} "))


@pytest.mark.parametrize("size", [None, PHONE], ids=["wide", "phone"])
def test_the_search_goes_from_hit_to_hit(size: Any, visit: Visit, task: int) -> None:
    visitor = visit("viewer", is_traced=False, **({"size": size} if size else {}))
    page = visitor.page
    page.goto(f"/tasks/{task}/")
    await_all(page)
    page.keyboard.press("/")
    field = page.get_by_role("searchbox")
    expect(field).to_be_focused()
    page.keyboard.type("needle")
    page.keyboard.press("Enter")
    hits, current = page.locator("[data-hits]"), page.locator("mark.now")
    total = LINES // NEEDLE
    for place, key in [(1, "Enter"), (2, "Enter"), (3, "Shift+Enter"), (2, "")]:
        expect(hits).to_have_text(f"{place} of {total}")
        expect(current).to_be_in_viewport()
        line = page.locator(".ln", has=current).locator("span").first
        expect(line).to_have_text(re.compile(f"^{place * NEEDLE:07d} "))
        if key:
            field.press(key)
    page.get_by_role("button", name="Hit before").click()
    page.get_by_role("button", name="Hit before").click()
    expect(hits).to_have_text(f"{total} of {total}")
    assert visitor.excess() == 0

    field.fill("nowhere to be found")
    field.press("Enter")
    expect(hits).to_have_text("no line")
    expect(page.get_by_role("button", name="Next hit")).to_be_disabled()
    field.press("Escape")
    expect(page.locator("mark")).to_have_count(0)


def test_more_hits_than_a_page_holds_are_gone_through_to_the_last(visit: Visit, task: int) -> None:
    page = visit("viewer", is_traced=False).page
    page.goto(f"/tasks/{task}/")
    await_all(page)
    middle = LINES // 2
    page.goto(f"/tasks/{task}/#L{middle}")
    expect(page.locator(".ln.sel")).to_be_visible()
    field, hits = page.locator("[data-search]"), page.locator("[data-hits]")
    field.fill("checked")
    field.press("Enter")
    # It begins where one reads, with as many before as after.
    expect(hits).to_have_text(re.compile(rf"^{str(middle - 100)[:-3]},9\d\d of {LINES:,}$"))
    note = page.locator("[data-hits-note]")
    expect(note).to_contain_text(f"{LINES:,} lines have it.")
    expect(note).to_contain_text("A longer text finds fewer.")
    page.locator("[data-lines]").focus()
    page.keyboard.press("Home")
    # The browser may take its time to get there, and a search begins where one is.
    lines = page.locator("[data-lines]")
    wait_for(lambda: lines.evaluate("(box) => box.scrollTop") == 0, "its beginning is in view")
    field.press("Escape")
    expect(note).to_be_hidden()
    field.fill("checked")
    field.press("Enter")
    expect(hits).to_have_text(f"1 of {LINES:,}")
    field.press("Shift+Enter")
    expect(hits).to_have_text(f"{LINES:,} of {LINES:,}")
    expect(page.locator(".ln mark.now")).to_be_visible()
    expect(page.locator(LAST)).to_have_text(re.compile(f"^{LINES:07d} "))
    field.press("Enter")
    expect(hits).to_have_text(f"1 of {LINES:,}")
    field.fill("Needle")
    field.press("Enter")
    expect(hits).to_have_text(f"1 of {LINES // NEEDLE:,}")
    expect(note).to_be_hidden()
