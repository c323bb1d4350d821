"""The log's switches: times, folds, wrapped lines, the whole window; and what stands out in it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import Visit
from tests.browser.visitor import PHONE
from tests.deployment.deployment import Deployment

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect

PACKAGES, QUIET = 300, 2000
LONG = "a long line " * 60
SCRIPT = f"""
import time
print("begin", time.time(), flush=True)
time.sleep(12)
print("TASK [web : Check space] ****")
print("ok: [web-01]", time.time(), flush=True)
print("TASK [web : Install packages] ****")
for n in range({PACKAGES}):
    print("fatal: [web-03]: reset" if n in (7, 8, 200) else f"changed: package-{{n}}")
print("TASK [web : Restart] ****")
print("::group::Clean up")
for n in range(5):
    print("removed", n)
print("::endgroup::")
print("{LONG}")
for n in range({QUIET}):
    print("quiet", n, "needle" if n == 1000 else "")
print("the end")
"""
HEAD = "TASK [web : Install packages]"


@pytest.fixture(scope="module")
def task(forge: Deployment, project: int) -> int:
    task = forge.api.run_script(project, SCRIPT, app="python", name="A log with sections")
    assert forge.api.wait_until(task)["state"] == "succeeded"
    return task


def opened(visit: Visit, task: int, fragment: str = "", **more: Any) -> Any:
    page = visit("viewer", **more).page
    page.goto(f"/tasks/{task}/{fragment}")
    page.locator("[data-errors]", has_text="3 errors").wait_for()
    return page


def switch(page: Any, name: str) -> Any:
    return page.get_by_role("button", name=name, exact=True)


def line(page: Any, text: str) -> Any:
    return page.locator(".ln", has_text=text)


def band(page: Any, text: str) -> Any:
    return page.locator("button.fold", has_text=text)


# ---- times ----
def moment(page: Any, text: str) -> datetime:
    found = line(page, text).first.locator("time").get_attribute("datetime")
    return datetime.fromisoformat(found.replace("Z", "+00:00"))


def test_each_line_tells_when_the_runner_read_it(visit: Visit, task: int) -> None:
    page = opened(visit, task)
    expect(page.locator(".ln time")).to_have_count(0)
    switch(page, "Times").click()
    expect(page.locator(".ln time").first).to_be_visible()
    for text in ("begin", "ok: [web-01]"):
        said = float(
            re.findall(r"\d+\.\d+", line(page, text).first.locator("span").inner_text())[0]
        )
        # The program's clock and Forge's are this machine's; what the runner sends is on its way
        # for a while where that has much to do.
        assert abs(moment(page, text).timestamp() - said) < 8, text
    assert (moment(page, "ok: [web-01]") - moment(page, "begin")).total_seconds() > 2
    shown = line(page, "begin").locator("time")
    title = shown.get_attribute("title")
    assert "Pacific/Auckland" in title and "The runner read it then" in title
    # In the reader's zone, to a tenth of a second.
    local = page.evaluate(
        "(at) => new Date(at).toTimeString().slice(0, 8)", moment(page, "begin").isoformat()
    )
    assert re.fullmatch(rf"{local}\.\d", shown.inner_text())
    assert moment(page, "begin").tzinfo == UTC

    page.reload()
    expect(page.locator(".ln time").first).to_be_visible()
    page.keyboard.press("t")
    expect(page.locator(".ln time")).to_have_count(0)
    expect(switch(page, "Times")).to_have_attribute("aria-pressed", "false")


# ---- folds ----
def test_long_stretches_are_folded_and_say_what_they_hide(visit: Visit, task: int) -> None:
    page = opened(visit, task)
    expect(band(page, HEAD)).to_have_count(0)
    page.keyboard.press("z")
    expect(band(page, HEAD)).to_contain_text(f"{PACKAGES + 1} lines")
    expect(band(page, HEAD)).to_contain_text("3 errors")
    # Short ones stay open, and what stands around the long ones is in sight.
    expect(line(page, "ok: [web-01]")).to_be_visible()
    expect(line(page, "TASK [web : Restart]")).to_be_visible()
    page.locator("[data-lines]").focus()
    page.keyboard.press("End")
    expect(line(page, "the end")).to_be_visible()
    expect(page.locator("button.fold", has_text=re.compile("^Lines "))).to_contain_text(
        re.compile(r"1,9\d\d lines")
    )

    page.reload()
    expect(band(page, HEAD)).to_be_visible()
    page.keyboard.press("z")
    expect(line(page, HEAD)).to_be_visible()
    expect(line(page, "changed: package-3").first).to_be_visible()


def test_a_fold_opens_and_closes_with_the_keyboard(visit: Visit, task: int) -> None:
    page = opened(visit, task)
    toggle = line(page, HEAD).locator("button")
    toggle.focus()
    page.keyboard.press("Enter")
    expect(band(page, HEAD)).to_be_focused()
    expect(band(page, HEAD)).to_have_attribute("aria-expanded", "false")
    expect(line(page, "changed: package-3")).to_have_count(0)
    page.keyboard.press("Space")
    expect(line(page, HEAD).locator("button")).to_be_focused()
    expect(line(page, "changed: package-3").first).to_be_visible()


def test_what_the_program_wants_folded_begins_folded(visit: Visit, task: int) -> None:
    page = opened(visit, task)
    page.get_by_role("button", name="To the end").click()
    page.locator(".ln", has_text="the end").wait_for()
    page.locator("[data-search]").fill("TASK [web : Restart]")
    page.keyboard.press("Enter")
    group = band(page, "Clean up")
    expect(group).to_contain_text("7 lines")
    group.click()
    expect(line(page, "removed 4")).to_be_visible()


def test_a_group_that_the_end_of_the_program_left_open_is_open(
    visit: Visit, forge: Deployment, project: int, tmp_path: Path
) -> None:
    """Its last lines tell why the program ended."""
    gate = tmp_path / "gate"
    script = f"""
    echo '::group::build'; echo compiled; echo '::endgroup::'
    echo '::group::seen open'; echo copied
    until [ -e {gate} ]; do sleep 0.1; done
    echo '::endgroup::'
    echo '::group::deploy'; seq 20
    echo 'connection to db-3 refused, giving up'
    exit 1
    """
    task = forge.api.run_script(project, script, name="A log with an open group")
    visitor = visit("viewer")
    page = visitor.page
    page.goto(f"/tasks/{task}/")
    expect(band(page, "build")).to_contain_text("3 lines")
    expect(line(page, "copied")).to_be_visible()
    gate.touch()
    visitor.await_status("Ended")
    # That it has ended is known: it can be folded.
    expect(line(page, "::group::seen open").locator("button")).to_be_visible()
    for text in ("copied", "::group::deploy", "connection to db-3 refused"):
        expect(line(page, text)).to_be_visible()
    page.reload()
    expect(band(page, "seen open")).to_contain_text("3 lines")
    for _ in range(3):
        expect(line(page, "connection to db-3 refused")).to_be_visible()
        expect(page.locator("button.fold")).to_have_count(2)
        page.keyboard.press("z")


@pytest.mark.parametrize("way", ["link", "search", "error"])
def test_whoever_is_led_into_a_fold_finds_it_open(way: str, visit: Visit, task: int) -> None:
    page = opened(visit, task)
    page.keyboard.press("z")
    expect(band(page, HEAD)).to_be_visible()
    if way == "link":
        page.evaluate("location.hash = '#L15'")
        found = page.locator(".ln.sel")
    elif way == "search":
        page.locator("[data-search]").fill("package-150")
        page.keyboard.press("Enter")
        found = page.locator(".ln", has=page.locator("mark.now"))
    else:
        page.keyboard.press("e")
        found = page.locator(".ln.sel.err")
    expect(found).to_be_in_viewport()
    expect(found).to_contain_text(
        {"link": "package-10", "search": "package-150", "error": "fatal: [web-03]"}[way]
    )
    expect(band(page, HEAD)).to_have_count(0)


def test_a_fold_tells_of_the_hits_that_it_hides(visit: Visit, task: int) -> None:
    page = opened(visit, task)
    page.keyboard.press("z")
    page.locator("[data-search]").fill("web-03")
    page.keyboard.press("Enter")
    expect(page.locator("mark.now")).to_be_in_viewport()
    line(page, HEAD).locator("button").click()
    expect(band(page, HEAD)).to_contain_text("3 hits")


# ---- what stands out ----
def test_errors_are_counted_marked_and_found(visit: Visit, task: int) -> None:
    page = opened(visit, task)
    seen: list[str] = []
    for _ in range(3):
        page.keyboard.press("e")
        current = page.locator(".ln.sel.err")
        expect(current).to_be_in_viewport()
        number = current.locator("a").inner_text()
        assert number not in seen or len(seen) == 2
        seen.append(number)
    # Lines that follow each other are one place; after the last comes the first.
    assert seen[2] == seen[0] != seen[1]
    expect(page.locator(".rule rect.e").first).to_be_attached()
    page.locator("[data-errors]").click()
    expect(page.locator(".ln.sel > a")).to_have_text(seen[1])


def test_the_ruler_shows_hits_and_leads_there(visit: Visit, task: int) -> None:
    page = opened(visit, task)
    page.locator("[data-search]").fill("needle")
    page.keyboard.press("Enter")
    expect(page.locator(".rule rect.m")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator(".rule rect.m")).to_have_count(0)
    ruler = page.locator(".rule")
    box = ruler.bounding_box()
    ruler.click(position={"x": 5, "y": box["height"] - 3})
    expect(line(page, "the end")).to_be_in_viewport()
    ruler.click(position={"x": 5, "y": 2})
    expect(line(page, "begin")).to_be_in_viewport()


# ---- wrapped lines, the whole window ----
HEIGHT = "(row) => row.getBoundingClientRect().height"


@pytest.mark.parametrize("size", [None, PHONE], ids=["wide", "phone"])
def test_long_lines_are_broken_on_demand_and_always_on_a_phone(
    size: Any, visit: Visit, task: int
) -> None:
    number = PACKAGES + 13
    visitor = visit("viewer", **({"size": size} if size else {}))
    page = visitor.page
    page.goto(f"/tasks/{task}/#L{number}")
    long = page.locator(".ln.sel")
    expect(long).to_contain_text("a long line")
    if size is None:
        assert long.evaluate(HEIGHT) == 20
        page.keyboard.press("w")
    expect(switch(page, "Wrap")).to_have_attribute("aria-pressed", "true")
    page.wait_for_function(f"({HEIGHT})(document.querySelector('.ln.sel')) > 60")
    expect(long).to_be_in_viewport()
    fits = "(lines) => lines.scrollWidth <= lines.clientWidth"
    assert page.locator("[data-lines]").evaluate(fits)
    assert visitor.excess() == 0
    # Nothing is drawn over anything, and the end is where it should be.
    page.locator("[data-follow]").click()
    page.wait_for_function(
        "() => { const row = document.querySelector('.ln:last-child');"
        " const box = document.querySelector('[data-lines]').getBoundingClientRect();"
        " return row.textContent.endsWith('the end')"
        " && row.getBoundingClientRect().bottom <= box.bottom; }"
    )
    tops = page.evaluate(
        "[...document.querySelectorAll('.ln')].map((row) => row.getBoundingClientRect())"
        ".map((box) => [box.top, box.bottom])"
    )
    assert all(one[1] <= other[0] + 1 for one, other in pairwise(tops))


def test_the_log_fills_the_window_until_escape(visit: Visit, task: int) -> None:
    page = opened(visit, task)
    page.keyboard.press("f")
    box = page.locator("#log").bounding_box()
    assert (box["x"], box["y"]) == (0, 0)
    assert (box["width"], box["height"]) == (1440, 900)
    expect(page.locator("[data-status]")).to_be_in_viewport()
    page.keyboard.press("Escape")
    page.wait_for_function("document.getElementById('log').getBoundingClientRect().x > 0")


def test_the_way_to_another_page_turns_no_switch(visit: Visit, task: int) -> None:
    page = opened(visit, task)
    page.keyboard.type("gt")
    page.wait_for_url(re.compile(r"/projects/\d+/tasks/"))
    page.go_back()
    expect(switch(page, "Times")).to_have_attribute("aria-pressed", "false")


def test_a_line_that_the_log_does_not_have_is_told(visit: Visit, task: int) -> None:
    page = visit("viewer").page
    page.goto(f"/tasks/{task}/#L9999")
    said = page.locator(".toasts [data-said]")
    count = page.locator("[data-line-count]")
    expect(said).to_contain_text("There is no line 9,999: the log has ")
    expect(said).to_contain_text(count.text_content())
    page.evaluate("location.hash = '#L9998'")
    expect(said).to_contain_text("There is no line 9,998: ")
    expect(said).to_have_count(1)


def test_a_search_that_finds_no_turn_says_why(visit: Visit, task: int) -> None:
    words = "Other searches of yours are under way. Try again when they have ended."
    page = opened(visit, task)
    pattern = "**/log/search?*"
    page.route(pattern, lambda route: route.fulfill(status=429, json={"message": words}))
    search = page.locator("[data-search]")
    search.fill("needle")
    search.press("Enter")
    expect(page.locator("[data-hits]")).to_have_text("not searched; Enter tries again")
    expect(page.locator("[data-hits-note]")).to_have_text(words)
    page.unroute(pattern)
    search.press("Enter")
    expect(page.locator("[data-hits]")).to_have_text("1 of 1")
    expect(page.locator("[data-hits-note]")).to_be_hidden()


def test_a_text_entered_while_another_is_looked_for_is_looked_for_next(
    visit: Visit, task: int
) -> None:
    page = opened(visit, task)
    pattern = "**/log/search?*"
    held: list[Any] = []
    page.route(pattern, lambda route: route.continue_() if held else held.append(route))
    search, hits = page.locator("[data-search]"), page.locator("[data-hits]")
    search.fill("fatal:")
    with page.expect_request(pattern):
        search.press("Enter")
    search.fill("needle")
    search.press("Enter")
    expect(hits).to_have_text("searching…")
    held[0].continue_()
    expect(hits).to_have_text("1 of 1")
    expect(page.locator("mark.now")).to_have_text("needle")


def test_a_count_is_of_the_text_that_was_looked_for(visit: Visit, task: int) -> None:
    page = opened(visit, task)
    search, hits = page.locator("[data-search]"), page.locator("[data-hits]")
    search.fill("fatal:")
    expect(hits).to_have_text("")
    search.press("Enter")
    expect(hits).to_have_text("1 of 3")
    search.fill("fatal: x")
    expect(hits).to_have_text("Enter searches")
    search.fill("fatal:")
    expect(hits).to_have_text("1 of 3")


def test_a_search_says_of_which_lines_it_sees_the_beginning_only(
    forge: Deployment, project: int, visit: Visit
) -> None:
    script = "print('x' * 50_000 + 'needle' + 'x' * 50_000)\nprint('short')\n"
    task = forge.api.run_script(project, script, app="python", name="A log with a long line")
    assert forge.api.wait_until(task)["state"] == "succeeded"
    page = visit("viewer").page
    page.goto(f"/tasks/{task}/")
    page.locator("[data-line-count]", has_text="2").wait_for()
    search = page.locator("[data-search]")
    search.fill("needle")
    search.press("Enter")
    expect(page.locator("[data-hits]")).to_have_text("no line")
    expect(page.locator("[data-hits-note]")).to_have_text(
        "1 line is longer than 16 KB, and searched up to there. The download has all of it."
    )
    search.press("Escape")
    expect(page.locator("[data-hits-note]")).to_be_hidden()
